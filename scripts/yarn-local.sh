#!/usr/bin/env bash
# Try the jobs on a real YARN on this machine, with a packed environment and S3 on a local server.
#
#   scripts/yarn-local.sh ARCHIVE [WORK_FOLDER]
#
# ARCHIVE is what emr/packaging/build_env.sh made with this machine's PYTHON. Starts a resource manager, two node
# managers and moto's S3 on loopback; runs ingest, a training on two nodes and scoring, each by
# `spark-submit --master yarn` in client and in cluster mode; compares the results; stops what it started.
# Needs about 6 GB of memory, and disk for two unpacked environments.
set -euo pipefail

archive=$(realpath "${1:?the archive of a packed environment is missing}")
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${BIN:-$root/.venv/bin}
work=$(realpath -m "${2:-$root/build/yarn}")
hadoop=3.4.1
SPARK_HOME=$("$bin/python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
export SPARK_HOME
mkdir -p "$work/conf" "$work/logs"

started=()
stop() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
}
trap stop EXIT
begin() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$work/logs/$name.log" 2>&1 &
    started+=($!)
}
ports() {
    "$bin/python" - "$1" <<'PYTHON'
import socket, sys

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
PYTHON
}
until_it_says() { # SECONDS TEXT COMMAND...
    local deadline=$((SECONDS + $1)) text=$2
    shift 2
    until "$@" 2>/dev/null | grep -q "$text"; do
        if ((SECONDS > deadline)); then
            echo "yarn-local.sh: no $text after a while; see $work/logs" >&2
            exit 1
        fi
        sleep 1
    done
}

# Hadoop's daemons in one jar, from Maven Central through Spark's own Ivy.
if ! compgen -G "$work/ivy/jars/*minicluster-$hadoop.jar" >/dev/null; then
    touch "$work/nothing.py"
    PYSPARK_PYTHON=$bin/python "$SPARK_HOME/bin/spark-submit" --master 'local[1]' --conf "spark.jars.ivy=$work/ivy" \
        --packages "org.apache.hadoop:hadoop-client-minicluster:$hadoop" "$work/nothing.py" >"$work/logs/ivy.log" 2>&1
fi

read -r s3 rm scheduler admin tracker web <<<"$(ports 6)"
property() { printf '<property><name>%s</name><value>%s</value></property>\n' "$1" "$2"; }
{
    echo '<configuration>'
    property yarn.resourcemanager.hostname 127.0.0.1
    property yarn.resourcemanager.address "127.0.0.1:$rm"
    property yarn.resourcemanager.scheduler.address "127.0.0.1:$scheduler"
    property yarn.resourcemanager.admin.address "127.0.0.1:$admin"
    property yarn.resourcemanager.resource-tracker.address "127.0.0.1:$tracker"
    property yarn.resourcemanager.webapp.address "127.0.0.1:$web"
    property yarn.nodemanager.hostname 127.0.0.1
    property yarn.nodemanager.address 127.0.0.1:0
    property yarn.nodemanager.localizer.address 127.0.0.1:0
    property yarn.nodemanager.webapp.address 127.0.0.1:0
    property yarn.nodemanager.resource.memory-mb 5120
    property yarn.nodemanager.resource.cpu-vcores 8
    property yarn.scheduler.minimum-allocation-mb 256
    property yarn.scheduler.maximum-allocation-mb 5120
    property yarn.nodemanager.vmem-check-enabled false
    property yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage 99.0
    property yarn.nodemanager.delete.debug-delay-sec 3600
    property yarn.nodemanager.localizer.cache.target-size-mb 102400
    echo '</configuration>'
} >"$work/conf/yarn-site.xml"
{
    echo '<configuration>'
    property yarn.scheduler.capacity.root.queues default
    property yarn.scheduler.capacity.root.default.capacity 100
    property yarn.scheduler.capacity.maximum-am-resource-percent 0.5
    echo '</configuration>'
} >"$work/conf/capacity-scheduler.xml"
echo '<configuration/>' >"$work/conf/core-site.xml"

export AWS_ACCESS_KEY_ID=synthetic AWS_SECRET_ACCESS_KEY=synthetic AWS_DEFAULT_REGION=us-east-1
export AWS_ENDPOINT_URL=http://127.0.0.1:$s3
begin s3 "$bin/moto_server" -H 127.0.0.1 -p "$s3"
jvm=(java -Xmx512m -cp "$work/conf:$work/ivy/jars/*" --add-opens=java.base/java.lang=ALL-UNNAMED
    "-Dyarn.log.dir=$work/logs")
daemons=org.apache.hadoop.yarn.server
begin resourcemanager "${jvm[@]}" $daemons.resourcemanager.ResourceManager
until_it_says 60 '"state":"STARTED"' curl -s "http://127.0.0.1:$web/ws/v1/cluster/info"
for node in 1 2; do
    begin "nodemanager$node" "${jvm[@]}" $daemons.nodemanager.NodeManager \
        -D "yarn.nodemanager.local-dirs=$work/node$node/local" -D "yarn.nodemanager.log-dirs=$work/node$node/logs"
done
until_it_says 60 '"activeNodes":2' curl -s "http://127.0.0.1:$web/ws/v1/cluster/metrics"
echo "yarn-local.sh: YARN with two nodes at http://127.0.0.1:$web, S3 at $AWS_ENDPOINT_URL, logs in $work"

# The driver's own copy for client mode; containers get theirs from YARN.
if [[ ! -e $work/driver/.unpacked-$(basename "$archive") ]]; then
    rm -rf "$work/driver"
    mkdir "$work/driver"
    tar -xzf "$archive" -C "$work/driver"
    touch "$work/driver/.unpacked-$(basename "$archive")"
fi
driver=$work/driver/bin/python
jobs=$work/driver/jobs

mapfile -t settings < <(
    "$bin/python" - <<'PYTHON'
import os

from slicemill.emr.job_settings import common_settings

settings = common_settings("us-east-1") | {
    "spark.yarn.jars": f"local:{os.environ['SPARK_HOME']}/jars/*",
    "spark.driver.memory": "768m",
    "spark.executor.memory": "768m",
    "spark.executor.memoryOverhead": "2560",
    "spark.executor.instances": "2",
    "spark.ui.enabled": "false",
}
for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
    settings[f"spark.executorEnv.{name}"] = settings[f"spark.yarn.appMasterEnv.{name}"] = os.environ[name]
for where in ("executorEnv", "yarn.appMasterEnv"):
    settings[f"spark.{where}.SPARK_LOCAL_IP"] = "127.0.0.1"
    settings[f"spark.{where}.PYSPARK_PYTHON"] = "./environment/bin/python"
for key, value in settings.items():
    print("--conf", f"{key}={value}", sep="\n")
PYTHON
)

submit() { # MODE JOB ARGUMENTS...: nothing of the development environment is on the path
    local mode=$1 job=$2 log
    shift 2
    log=$work/logs/$job-$mode.log
    local python=(PYSPARK_PYTHON=./environment/bin/python)
    [[ $mode == cluster ]] || python+=("PYSPARK_DRIVER_PYTHON=$driver" SPARK_LOCAL_IP=127.0.0.1)
    local start=$SECONDS
    if ! env -i HOME="$work" PATH=/usr/local/bin:/usr/bin:/bin ${JAVA_HOME:+JAVA_HOME="$JAVA_HOME"} \
        SPARK_HOME="$SPARK_HOME" HADOOP_CONF_DIR="$work/conf" "${python[@]}" \
        AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY \
        AWS_DEFAULT_REGION=$AWS_DEFAULT_REGION AWS_ENDPOINT_URL="$AWS_ENDPOINT_URL" \
        "$SPARK_HOME/bin/spark-submit" --master yarn --deploy-mode "$mode" "${settings[@]}" \
        --archives "$archive#environment" "$jobs/$job.py" "$@" >"$log" 2>&1; then
        echo "yarn-local.sh: $job in $mode mode failed; see $log and $work/node*/logs" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    if [[ $mode == cluster ]]; then
        local application
        application=$(grep -oE 'application_[0-9]+_[0-9]+' "$log" | head -n 1)
        cat "$work"/node*/logs/"$application"/*/stdout | grep '^{"job"' | tee -a "$log"
    else
        grep '^{"job"' "$log"
    fi
    echo "yarn-local.sh: $job, $mode mode: $((SECONDS - start)) s"
}
plain() { env -i HOME="$work" PATH=/usr/bin:/bin AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID \
    AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION=$AWS_DEFAULT_REGION \
    AWS_ENDPOINT_URL="$AWS_ENDPOINT_URL" "$driver" "$@"; }

bucket=s3://study
plain -c "import boto3; boto3.client('s3').create_bucket(Bucket='study')"
if [[ -n ${RAW:-} ]]; then
    plain - "$RAW" <<'PYTHON'
import pathlib, sys

import boto3

raw, s3 = pathlib.Path(sys.argv[1]), boto3.client("s3")
for folder in sorted(path for path in raw.iterdir() if path.is_dir())[:6]:
    for path in folder.iterdir():
        s3.upload_file(str(path), "study", f"raw/{path.relative_to(raw)}")
PYTHON
else
    plain -c "from slicemill.cli import main; main()" phantom --out $bucket/raw --scans 6 --size 64
fi
for mode in client cluster; do
    submit $mode ingest --raw $bucket/raw --lake $bucket/$mode/lake
    plain "$jobs/split.py" --lake $bucket/$mode/lake --name first --fractions 0.5,0.2,0.3
    submit $mode train --lake $bucket/$mode/lake --split first --out $bucket/$mode/run --epochs 1 \
        --image-size 32 --num-processes 2 --device cpu
    submit $mode score --model $bucket/client/run --raw $bucket/raw --out $bucket/$mode/scores
done
plain - <<'PYTHON'
from slicemill.io import storage
from slicemill.io.lake_reader import read_scans

def both(read):
    return [read(f"s3://study/{mode}") for mode in ("client", "cluster")]


lakes = both(lambda home: {row["scan_id"]: row["content_hash"] for row in read_scans(f"{home}/lake")})
# The last columns tell when and by which run; all before them are the scan's own.
scores = both(
    lambda home: [
        line.split(",")[:8] for line in storage.read_bytes(f"{home}/scores/patients.csv").decode().splitlines()
    ]
)
if lakes[0] != lakes[1] or scores[0] != scores[1] or not len(lakes[0]) == len(scores[0]) - 1 == 6:
    raise SystemExit(f"yarn-local.sh: the modes differ: {lakes} {scores}")
print("yarn-local.sh: both modes wrote the same lake and the same scores of 6 scans")
PYTHON
