#!/usr/bin/env bash
# Try the jobs on real clusters on this machine, with a packed environment and S3 on a local server.
#
#   scripts/yarn-local.sh ARCHIVE [WORK_FOLDER]
#
# ARCHIVE is what emr/packaging/build_env.sh made with this machine's PYTHON. Starts a resource manager, two node
# managers and moto's S3 on loopback; runs ingest, a training of two processes and scoring by spark-submit, on
# Spark's own local-cluster and on YARN in client and in cluster mode; compares what they wrote; stops what it
# started. Nothing but the archive, Spark's scripts and its jars are on the jobs' paths.
# MODES: some of "local-cluster client cluster". RAW: folder whose first six scans are taken, not synthetic ones.
# Needs about 6 GB of memory, and disk for three unpacked environments. What stays in the work folder: the driver's
# environment, the logs, and the scores of the last mode to look at.
set -euo pipefail

archive=$(realpath "${1:?the archive of a packed environment is missing}")
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${BIN:-$root/.venv/bin}
work=$(realpath -m "${2:-$root/build/yarn}")
hadoop=3.4.1
modes=${MODES:-local-cluster client cluster}
rm -rf "$work/scores"
mkdir -p "$work"/{conf,home,logs,spark,staging}
# Spark as a cluster brings it: pip's, without the packages around it.
pyspark=$("$bin/python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
for part in bin jars python sbin; do ln -sfn "$pyspark/$part" "$work/spark/$part"; done
export SPARK_HOME=$work/spark

started=()
stop() {
    trap - EXIT INT TERM
    # Jobs before the nodes that they run on, servers last.
    local index pid
    for ((index = ${#started[@]} - 1; index >= 0; index--)); do
        pid=${started[index]}
        # A job is a process group: its driver would outlive spark-submit.
        kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true
    done
    wait
    # What node managers unpacked; they would not take it up again.
    rm -rf "$work"/node*/local "$work/staging" "$work/spark/work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
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

# Hadoop's daemons in one jar, from Maven Central through Spark's own Ivy, and what that jar takes for granted.
daemon_jars=(
    "org.apache.hadoop:hadoop-client-minicluster:$hadoop"
    org.slf4j:slf4j-reload4j:1.7.36
    org.bouncycastle:bcprov-jdk18on:1.78.1
    org.bouncycastle:bcpkix-jdk18on:1.78.1
    com.sun.xml.bind:jaxb-impl:2.3.1
    com.sun.xml.bind:jaxb-core:2.3.0.1
    javax.xml.bind:jaxb-api:2.3.1
)
if ! compgen -G "$work/ivy/jars/*minicluster-$hadoop.jar" >/dev/null; then
    touch "$work/nothing.py"
    PYSPARK_PYTHON=$bin/python "$SPARK_HOME/bin/spark-submit" --master 'local[1]' --conf "spark.jars.ivy=$work/ivy" \
        --packages "$(IFS=,; echo "${daemon_jars[*]}")" "$work/nothing.py" >"$work/logs/ivy.log" 2>&1
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
    # Containers' output outlives their application: in cluster mode the summary is in it.
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
{
    echo '<configuration>'
    # A file system of the cluster, as HDFS is on EMR: what lies in it already, Spark does not copy for each job, and
    # a node unpacks it once for all of them.
    property fs.viewfs.mounttable.shared.link./archives "file://$(dirname "$archive")"
    property fs.viewfs.mounttable.shared.link./staging "file://$work/staging"
    echo '</configuration>'
} >"$work/conf/core-site.xml"
cat >"$work/conf/log4j.properties" <<'LOG4J'
log4j.rootLogger=INFO,err
log4j.appender.err=org.apache.log4j.ConsoleAppender
log4j.appender.err.layout=org.apache.log4j.PatternLayout
log4j.appender.err.layout.ConversionPattern=%d %p %c{1}: %m%n
LOG4J

export AWS_ACCESS_KEY_ID=synthetic AWS_SECRET_ACCESS_KEY=synthetic AWS_DEFAULT_REGION=us-east-1
export AWS_ENDPOINT_URL=http://127.0.0.1:$s3
begin s3 "$bin/moto_server" -H 127.0.0.1 -p "$s3"
jvm=(java -Xmx512m -cp "$work/conf:$work/ivy/jars/*" --add-opens=java.base/java.lang=ALL-UNNAMED
    "-Dyarn.log.dir=$work/logs")
daemons=org.apache.hadoop.yarn.server
begin resourcemanager "${jvm[@]}" $daemons.resourcemanager.ResourceManager
until_it_says 180 '"state":"STARTED"' curl -s "http://127.0.0.1:$web/ws/v1/cluster/info"
for node in 1 2; do
    begin "nodemanager$node" "${jvm[@]}" $daemons.nodemanager.NodeManager \
        -D "yarn.nodemanager.local-dirs=$work/node$node/local" -D "yarn.nodemanager.log-dirs=$work/node$node/logs"
done
until_it_says 180 '"activeNodes":2' curl -s "http://127.0.0.1:$web/ws/v1/cluster/metrics"
echo "yarn-local.sh: YARN with two nodes at http://127.0.0.1:$web, S3 at $AWS_ENDPOINT_URL, logs in $work"

# The driver's own copy, for client mode and local-cluster; YARN's containers get theirs from YARN.
if [[ ! -e $work/driver/.unpacked-$(basename "$archive") ]]; then
    rm -rf "$work/driver"
    mkdir "$work/driver"
    tar -xzf "$archive" -C "$work/driver"
    touch "$work/driver/.unpacked-$(basename "$archive")"
fi
driver=$work/driver/bin/python
jobs=$work/driver/jobs

# Those of EMR's jobs, cut down to this machine.
mapfile -t settings < <(
    "$bin/python" - <<'PYTHON'
import os

from slicemill.emr.requests.job_settings import common_settings

settings = common_settings("us-east-1") | {
    "spark.driver.memory": "768m",
    "spark.executor.memory": "768m",
    "spark.executor.memoryOverhead": "2560",
    "spark.executor.instances": "2",
    "spark.ui.enabled": "false",
    "spark.yarn.jars": f"local:{os.environ['SPARK_HOME']}/jars/*",
    "spark.yarn.stagingDir": "viewfs://shared/staging",
}
for where in ("executorEnv", "yarn.appMasterEnv"):
    settings[f"spark.{where}.SPARK_LOCAL_IP"] = "127.0.0.1"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        settings[f"spark.{where}.{name}"] = os.environ[name]
for key, value in settings.items():
    print("--conf", f"{key}={value}", sep="\n")
PYTHON
)
packed=./environment/bin/python
spark_submit=("$SPARK_HOME/bin/spark-submit" "${settings[@]}")
on_yarn=("PYSPARK_PYTHON=$packed" "${spark_submit[@]}" --master yarn
    --archives "viewfs://shared/archives/$(basename "$archive")#environment"
    --conf "spark.executorEnv.PYSPARK_PYTHON=$packed" --conf "spark.yarn.appMasterEnv.PYSPARK_PYTHON=$packed")

# Nothing of the development environment is on the path, nor is its folder the current one.
bare() {
    cd "$work/home"
    exec setsid env -i HOME="$work/home" PATH=/usr/local/bin:/usr/bin:/bin ${JAVA_HOME:+JAVA_HOME="$JAVA_HOME"} \
        SPARK_HOME="$SPARK_HOME" HADOOP_CONF_DIR="$work/conf" SPARK_LOCAL_IP=127.0.0.1 \
        AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY \
        AWS_DEFAULT_REGION=$AWS_DEFAULT_REGION AWS_ENDPOINT_URL="$AWS_ENDPOINT_URL" "$@"
}
plain() { (bare "$driver" "$@"); }
submit() { # MODE JOB ARGUMENTS...
    local mode=$1 job=$2 start=$SECONDS log application command
    shift 2
    log=$work/logs/$job-$mode.log
    case $mode in
        local-cluster) command=("PYSPARK_PYTHON=$driver" "${spark_submit[@]}" --master 'local-cluster[2,1,1024]') ;;
        client) command=("PYSPARK_DRIVER_PYTHON=$driver" "${on_yarn[@]}") ;;
        cluster) command=("${on_yarn[@]}" --deploy-mode cluster) ;;
    esac
    # In the background, so that a signal to this script does not wait for the job.
    (bare "${command[@]}" "$jobs/$job.py" "$@") >"$log" 2>&1 &
    started+=($!)
    if ! wait $!; then
        echo "yarn-local.sh: $job, $mode: failed; see $log and $work/node*/logs" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    if [[ $mode == cluster ]]; then
        application=$(grep -oE 'application_[0-9]+_[0-9]+' "$log" | head -n 1)
        cat "$work"/node*/logs/"$application"/*/stdout >>"$log"
    fi
    grep '^{"job"' "$log"
    echo "yarn-local.sh: $job, $mode: $((SECONDS - start)) s"
}

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
read -r first _ <<<"$modes"
for mode in $modes; do
    submit "$mode" ingest --raw $bucket/raw --lake "$bucket/$mode/lake"
    plain "$jobs/split.py" --lake "$bucket/$mode/lake" --name first --fractions 0.5,0.2,0.3
    submit "$mode" train --lake "$bucket/$mode/lake" --split first --out "$bucket/$mode/run" --epochs 1 \
        --image-size 32 --num-processes 2 --device cpu
    # All modes by one model, so that their masks can be compared byte by byte.
    submit "$mode" score --model "$bucket/$first/run" --raw $bucket/raw --out "$bucket/$mode/scores"
done
# shellcheck disable=SC2086 # One argument a mode.
plain - $modes <<'PYTHON'
import hashlib, pathlib, sys

from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.scores.check import check_entry


def content(home):
    """Of a mode's folder: content of the lake, Dice of each scan, each mask by its hash."""
    lake = {row.scan_id: row.content_hash for row in read_scans(f"{home}/lake")}
    entries = [file.uri for file in storage.list_files(f"{home}/scores/manifest")]
    checks = [check_entry(f"{home}/scores", uri) for uri in entries]
    wrong = [name for check in checks for name in check.missing + check.changed]
    if wrong or len(entries) != 6:
        raise SystemExit(f"yarn-local.sh: {home}/scores has {len(entries)} entries; wrong outputs: {wrong}")
    table = storage.read_bytes(f"{home}/scores/patients.csv").decode().splitlines()
    masks = {
        file.uri.removeprefix(home): hashlib.sha256(storage.read_bytes(file.uri)).hexdigest()
        for file in storage.list_files(f"{home}/scores/masks")
    }
    # The last columns tell when and by which run; all before them are the scan's own.
    return lake, [line.split(",")[:8] for line in table], masks


modes = sys.argv[1:]
(lake, table, masks), *others = [content(f"s3://study/{mode}") for mode in modes]
if not len(lake) == len(table) - 1 == 6 or any(other != (lake, table, masks) for other in others):
    raise SystemExit(f"yarn-local.sh: {', '.join(modes)} wrote different things")
for line in table:
    print(*line)
for file in storage.list_files(f"s3://study/{modes[-1]}/scores"):
    target = pathlib.Path("../scores") / file.uri.partition("/scores/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(storage.read_bytes(file.uri))
same = f"the same lake, Dice and {len(masks)} masks, all as their manifest says"
print(f"yarn-local.sh: {', '.join(modes)}: {same}")
PYTHON
