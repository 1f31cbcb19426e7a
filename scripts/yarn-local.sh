#!/usr/bin/env bash
# Run EMR's steps, word for word, on a cluster of this machine: the commands that slicemill gives to EMR, on nodes that
# the bootstrap action made, under the roles of the foundation stack.
#
#   scripts/yarn-local.sh ARCHIVE [WORK_FOLDER]
#
# ARCHIVE is what emr/packaging/build_env.sh made with this machine's /usr/bin/python3.11, or the folder that one was
# unpacked into, which saves minutes but leaves out the way "archive". Wants root, since a node has users and folders
# of its own: everything happens in a private mount namespace, and nothing of it stays. Starts HDFS,
# a resource manager and two node managers (Hadoop's minicluster, from Maven) and moto's S3, all on loopback; runs the
# step files in their three ways; compares what they wrote; stops what it started.
# WAYS: some of "client cluster archive". JOBS: some of "ingest split train score report compare". SPARK: the virtual environment whose PySpark is the cluster's.
# Needs about 8 GB of memory and 20 GB of disk. Logs stay in the work folder.
set -euo pipefail

archive=$(realpath "${1:?the archive of a packed environment is missing}")
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${BIN:-$root/.venv/bin}
spark=${SPARK:-$root/.venv}
work=$(realpath -m "${2:-$root/build/yarn}")
ways=${WAYS:-client cluster archive}
jobs=${JOBS:-ingest split train score report compare}
name=$(basename "$archive")
if [[ -d $archive ]]; then
    ways=${ways/archive/}
    name=slicemill-local-registry-x86_64-$(printf '0%.0s' {1..64}).tar.gz
fi
hadoop=3.4.1
awscli=1.46.2
site=$root/emr/site.example.json
data=s3://slicemill-databucket-example
code=s3://slicemill-codebucket-example
pyspark=$("$spark/bin/python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')

if [[ -z ${YARN_LOCAL_NODE:-} ]]; then
    if [[ $EUID -ne 0 ]]; then
        echo "yarn-local.sh: wants root, for the users and folders of a node" >&2
        exit 2
    fi
    mkdir -p "$work"
    YARN_LOCAL_NODE=1 exec unshare --mount --propagation private "$0" "$archive" "$work"
fi
mkdir -p "$work"/{logs,layers,content,mnt,home}
find "$work/mnt" "$work/content" -mindepth 1 -delete

# Hadoop's daemons in one jar, from Maven Central through Spark's own Ivy, and what that jar takes for granted.
jars=(
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
    PYSPARK_PYTHON=$bin/python SPARK_HOME=$pyspark "$pyspark/bin/spark-submit" --master 'local[1]' \
        --conf "spark.jars.ivy=$work/ivy" --packages "$(IFS=,; echo "${jars[*]}")" "$work/nothing.py" \
        >"$work/logs/ivy.log" 2>&1
fi
if [[ ! -d $archive && ! -x $work/aws/bin/aws ]]; then
    /usr/bin/python3.11 -m venv "$work/aws"
    "$bin/uv" pip install --quiet --python "$work/aws/bin/python" "awscli==$awscli"
fi

processes=()
stop() {
    trap - EXIT INT TERM
    # Steps before the nodes that they run on, servers last.
    local index
    for ((index = ${#processes[@]} - 1; index >= 0; index--)); do
        # Each is a process group: a driver would outlive spark-submit.
        kill -- "-${processes[index]}" 2>/dev/null || true
    done
    wait
    umount /mnt/slicemill/* 2>/dev/null || true
    find "$work/mnt" -mindepth 1 -delete
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
as() { # USER COMMAND...
    local user=$1
    shift
    setpriv --reuid "$user" --regid hadoop --init-groups "$@"
}
start() { # NAME COMMAND...
    local name=$1
    shift
    setsid "$@" >"$work/logs/$name.log" 2>&1 &
    processes+=($!)
}
wait_for() { # TEXT COMMAND...
    local deadline=$((SECONDS + 600)) text=$1
    shift
    until "$@" 2>/dev/null | grep -q "$text"; do
        if ((SECONDS > deadline)); then
            echo "yarn-local.sh: no $text after ten minutes; see $work/logs" >&2
            exit 1
        fi
        sleep 1
    done
}
read -r s3 namenode yarn scheduler admin tracker web < <("$bin/python" - <<'PYTHON'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(7)]
print(*(socket.getsockname()[1] for socket in sockets))
PYTHON
)

# A node's folders and users, over this machine's, for the processes of this script alone.
mount -t tmpfs layers "$work/layers"
for folder in etc usr opt; do
    mkdir "$work/layers/$folder" "$work/layers/$folder.work"
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=$work/layers/$folder,workdir=$work/layers/$folder.work"
done
mount --bind "$work/mnt" /mnt
mount --bind "$work/home" /home
id=3001
echo "hadoop:x:$id:" >>/etc/group
for user in hadoop yarn hdfs; do
    echo "$user:x:$((id++)):3001::/home/$user:/bin/bash" >>/etc/passwd
    mkdir -p "/home/$user"
    chown "$user:hadoop" "/home/$user"
done
mkdir -p /usr/share/aws/emr /usr/lib/spark /etc/hadoop /etc/spark /mnt/{steps,s3,namenode,datanode} /mnt/node{1,2}/{local,logs}
chmod 1777 /mnt/s3
chown hadoop:hadoop /mnt/steps
chown hdfs:hadoop /mnt/namenode /mnt/datanode
chown yarn:hadoop /mnt/node*/*
for part in bin jars python sbin; do ln -sfn "$pyspark/$part" "/usr/lib/spark/$part"; done
cat >/usr/bin/spark-submit <<'SUBMIT'
#!/usr/bin/env bash
export SPARK_HOME=/usr/lib/spark SPARK_CONF_DIR=${SPARK_CONF_DIR:-/etc/spark/conf}
exec /usr/lib/spark/bin/spark-submit "$@"
SUBMIT
printf '#!/usr/bin/env bash\nexec %q "$@"\n' "$work/aws/bin/aws" >/usr/bin/aws
chmod 755 /usr/bin/spark-submit /usr/bin/aws
environment=$code/environments/$name
if [[ -d $archive ]]; then
    sum=${name%.tar.gz}
    mkdir -p "/mnt/slicemill/${sum##*-}"
    mount --bind "$archive" "/mnt/slicemill/${sum##*-}"
    touch "$archive/.unpacked"
fi
rm -rf "$work/node"
XDG_CACHE_HOME=$work/cache "$bin/python" "$root/scripts/rehearsal/node.py" "$site" "$environment" "$work/node" \
    "s3=$s3" "namenode=$namenode" "yarn=$yarn" "scheduler=$scheduler" "admin=$admin" "tracker=$tracker" "web=$web"
ln -sfn "$work/node/etc/hadoop" /etc/hadoop/conf
ln -sfn "$work/node/etc/spark" /etc/spark/conf
cat >"$work/node/etc/hadoop/log4j.properties" <<'LOG4J'
log4j.rootLogger=INFO,err
log4j.appender.err=org.apache.log4j.ConsoleAppender
log4j.appender.err.layout=org.apache.log4j.PatternLayout
log4j.appender.err.layout.ConversionPattern=%d %p %c{1}: %m%n
LOG4J

# S3 with the roles' policies before it, then what `slicemill emr upload` writes.
start s3 "$bin/python" "$root/scripts/rehearsal/gate.py" "$site" "$s3"
operator=(AWS_ACCESS_KEY_ID=OPERATOR AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=eu-central-1
    "AWS_ENDPOINT_URL=http://127.0.0.1:$s3")
node=("${operator[@]/OPERATOR/NODES}")
gate() { curl -sf -X PUT "http://127.0.0.1:$s3/_gate/$1"; }
wait_for . bash -c "curl -s http://127.0.0.1:$s3/_gate/ -o /dev/null && echo up"
env "${operator[@]}" "$bin/python" - "$archive" "$site" <<'PYTHON'
import json, pathlib, sys

import boto3

s3 = boto3.client("s3")
for row in json.loads(pathlib.Path(sys.argv[2]).read_text()):
    if row["OutputKey"].endswith("Bucket"):
        place = {"LocationConstraint": "eu-central-1"}
        s3.create_bucket(Bucket=row["OutputValue"], CreateBucketConfiguration=place)
code = "slicemill-codebucket-example"
archive = pathlib.Path(sys.argv[1])
if archive.is_file():
    s3.upload_file(str(archive), code, f"environments/{archive.name}")
for path in pathlib.Path("jobs").glob("*.py"):
    s3.upload_file(str(path), code, f"jobs/{path.name}")
PYTHON
slicemill() { env "${operator[@]}" "$bin/slicemill" "$@"; }
slicemill phantom --out $data/raw --scans "${SCANS:-6}" --size "${SIZE:-48}"

bootstrap() { env "${node[@]}" "$root/emr/bootstrap/environment.sh" "$environment"; }
SECONDS=0
bootstrap
echo "yarn-local.sh: bootstrap action: $SECONDS s"

classes=$(echo "$work"/ivy/jars/*.jar)
connector=$(sed "s|.*  |$pyspark/jars/|" "$root/src/slicemill/spark/connector_sums.txt")
path=/etc/hadoop/conf:${classes// /:}:${connector//$'\n'/:}
java=(env HADOOP_CONF_DIR=/etc/hadoop/conf "${node[@]}" java -Xmx512m -cp "$path" --add-opens=java.base/java.lang=ALL-UNNAMED)
apache=org.apache.hadoop
as hdfs "${java[@]}" $apache.hdfs.server.namenode.NameNode -format -nonInteractive >"$work/logs/format.log" 2>&1
start namenode setpriv --reuid hdfs --regid hadoop --init-groups "${java[@]}" $apache.hdfs.server.namenode.NameNode
start datanode setpriv --reuid hdfs --regid hadoop --init-groups "${java[@]}" $apache.hdfs.server.datanode.DataNode
files=(as hdfs "${java[@]}" "$apache.fs.FsShell")
make_folders() { "${files[@]}" -mkdir -p /tmp /user/hadoop /var/log/spark/apps && echo up; }
wait_for up make_folders
"${files[@]}" -chown hadoop /user/hadoop /var/log/spark/apps 2>/dev/null
start resourcemanager setpriv --reuid yarn --regid hadoop --init-groups "${java[@]}" "-Dyarn.log.dir=$work/logs" \
    $apache.yarn.server.resourcemanager.ResourceManager
wait_for '"state":"STARTED"' curl -s "http://127.0.0.1:$web/ws/v1/cluster/info"
for number in 1 2; do
    start "nodemanager$number" setpriv --reuid yarn --regid hadoop --init-groups "${java[@]}" \
        $apache.yarn.server.nodemanager.NodeManager -D "yarn.nodemanager.local-dirs=/mnt/node$number/local" \
        -D "yarn.nodemanager.log-dirs=/mnt/node$number/logs"
done
wait_for '"activeNodes":2' curl -s "http://127.0.0.1:$web/ws/v1/cluster/metrics"
echo "yarn-local.sh: HDFS, YARN with two nodes and S3 are up; logs in $work/logs"

# What command-runner.jar does: the step's words as user hadoop, in a folder of the step's.
command_runner() { # NAME
    local conf=/etc/spark/conf words
    if [[ $1 == *-archive ]]; then conf=$work/node/etc/spark-emr; fi
    mapfile -t words < <("$bin/python" -c 'import json, sys
for word in json.load(open(sys.argv[1]))[0]["HadoopJarStep"]["Args"]: print(word)' "$work/node/steps/$1.json")
    mkdir -p "/mnt/steps/$1"
    chown hadoop:hadoop "/mnt/steps/$1"
    cd "/mnt/steps/$1"
    exec setsid setpriv --reuid hadoop --regid hadoop --init-groups env -i HOME=/home/hadoop USER=hadoop LOGNAME=hadoop \
        PATH=/usr/local/bin:/usr/bin:/bin ${JAVA_HOME:+JAVA_HOME="$JAVA_HOME"} SPARK_CONF_DIR="$conf" \
        SPARK_LOCAL_IP=127.0.0.1 "${node[@]}" "${words[@]}"
}
step() { # NAME ROLE
    local name=$1 log=$work/logs/$1.log from=$SECONDS application refusals
    gate "$2" >/dev/null
    # In the background, so that a signal to this script does not wait for the step.
    (command_runner "$name") >"$log" 2>&1 &
    processes+=($!)
    if ! wait $!; then
        echo "yarn-local.sh: $name failed; see $log" >&2
        gate "$2" >&2
        tail -n 20 "$log" >&2
        return 1
    fi
    application=$(grep -oE 'application_[0-9]+_[0-9]+' "$log" | head -n 1 || true)
    if [[ $name == *-cluster-mode || $name == *-archive ]]; then
        cat /mnt/node*/logs/"$application"/*/stdout >>"$log"
    fi
    grep '^{"job"' "$log"
    echo "yarn-local.sh: $name as $2: $((SECONDS - from)) s"
    refusals=$(gate "$2")
    if [[ -n $refusals ]]; then
        echo "yarn-local.sh: $name asked for what $2 may not do: $refusals" >&2
        return 1
    fi
}
# A job in each way: what an earlier way wrote is removed before, so that each starts from the same.
each_way() { # JOB ROLE URI
    local way name first=
    for way in $ways; do
        case $way in client) name=$1 ;; cluster) name=$1-cluster-mode ;; archive) name=$1-archive ;; esac
        env "${operator[@]}" "$bin/python" "$root/scripts/rehearsal/content.py" clear "$3"
        # The archive is for nodes that no bootstrap action of ours has seen.
        if [[ $way == archive ]]; then rm /opt/slicemill; fi
        step "$name" "$2"
        if [[ $way == archive ]]; then bootstrap >/dev/null; fi
        env "${operator[@]}" "$bin/python" "$root/scripts/rehearsal/content.py" show "$3" >"$work/content/$name.json"
        first=${first:-$work/content/$name.json}
        if ! cmp "$work/content/$name.json" "$first"; then
            echo "yarn-local.sh: $name wrote something else" >&2
            return 1
        fi
    done
}
SECONDS=0
for job in $jobs; do
    case $job in
        ingest) each_way ingest PipelineRole $data/lake ;;
        train) each_way train TrainingRole $data/runs/first ;;
        score) each_way score PipelineRole $data/scores/first ;;
        *) step "$job" PipelineRole ;;
    esac
done
echo "yarn-local.sh: in the ways $ways: the same lake, Dice and masks, each job under its own role; $SECONDS s"
if step split TrainingRole >"$work/logs/split-refusal.log" 2>&1; then
    echo "yarn-local.sh: the training role wrote a split into the lake" >&2
    exit 1
fi
echo "yarn-local.sh: $(grep -m 1 -E '^TrainingRole s3:' "$work/logs/split-refusal.log"): refused, as it should be"
