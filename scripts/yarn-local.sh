#!/usr/bin/env bash
# Run a command on the primary node of a real YARN on this machine.
#
#   scripts/yarn-local.sh WORK_FOLDER COMMAND...
#
# Starts a resource manager and two node managers on loopback, of the size that the configurations of the cpu shape
# say, and stops them when the command ends. Command and containers see /opt and /usr/share/aws as on a node, in a
# name space of mounts that is theirs alone: what they put there is gone afterwards. The command finds spark-submit
# on its PATH and, in its variables, SPARK_HOME, HADOOP_CONF_DIR and YARN_WEB (the resource manager's address).
# Needs root or user name spaces. Sizes are YARN's reckoning; the memory is taken when processes need it.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
if [[ -z ${SLICEMILL_NODE:-} ]]; then
    mapping=()
    ((EUID == 0)) || mapping=(--user --map-root-user)
    SLICEMILL_NODE=1 exec unshare "${mapping[@]}" --mount "$0" "$@"
fi

unset SLICEMILL_NODE
work=$(realpath -m "${1:?the work folder is missing}")
shift
bin=${BIN:-$root/.venv/bin}
hadoop=3.4.1
rm -rf "$work"/{conf,logs,node1,node2,spark,staging}
mkdir -p "$work"/{conf,logs,spark,staging,layers}

# A layer over each folder: nothing below it is touched, and the layers end with the name space.
mount -t tmpfs tmpfs "$work/layers"
for folder in opt usr/share; do
    mkdir -p "$work/layers/$folder"/{upper,work}
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=$work/layers/$folder/upper,workdir=$work/layers/$folder/work"
done
# By which slicemill knows a node of EMR.
mkdir -p /usr/share/aws/emr

# Spark as a cluster brings it: pip's, without the packages around it.
pyspark=$("$bin/python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
for part in bin jars python sbin; do ln -sfn "$pyspark/$part" "$work/spark/$part"; done
export SPARK_HOME=$work/spark

started=()
# shellcheck disable=SC2329 # The trap calls it.
stop() {
    trap - EXIT INT TERM
    # The command before the nodes that it runs on.
    local index
    for ((index = ${#started[@]} - 1; index >= 0; index--)); do kill "${started[index]}" 2>/dev/null || true; done
    wait
    # What node managers unpacked; they would not take it up again.
    rm -rf "$work"/node*/local "$work/staging"
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
# shellcheck disable=SC2329 # begin calls it.
keep_up() { # COMMAND...
    # A node that dies is replaced, as EMR replaces one, until this is told to stop.
    local child=
    trap 'trap - TERM; kill $child 2>/dev/null; wait $child 2>/dev/null; exit' TERM
    while true; do
        "$@" &
        child=$!
        wait "$child" || sleep 5
    done
}
ports() {
    "$bin/python" - "$1" <<'PYTHON'
import socket, sys

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in held))
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
    if ! PYSPARK_PYTHON=$bin/python "$SPARK_HOME/bin/spark-submit" --master 'local[1]' \
        --conf "spark.jars.ivy=$work/ivy" --packages "$(IFS=,; echo "${daemon_jars[*]}")" "$work/nothing.py" \
        >"$work/logs/ivy.log" 2>&1; then
        echo "yarn-local.sh: Hadoop's daemons could not be fetched; see $work/logs/ivy.log" >&2
        exit 1
    fi
fi

read -r rm scheduler admin tracker web <<<"$(ports 5)"
property() { printf '<property><name>%s</name><value>%s</value></property>\n' "$1" "$2"; }
{
    echo '<configuration>'
    "$bin/python" - <<'PYTHON'
from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.configurations import configurations
from slicemill.emr.site import Site

for row in configurations(SHAPES["cpu"], Site.placeholders()):
    if row["Classification"] == "yarn-site":
        for name, value in row["Properties"].items():
            print(f"<property><name>{name}</name><value>{value}</value></property>")
PYTHON
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
    # As on EMR, so that executors are not rounded up.
    property yarn.scheduler.minimum-allocation-mb 32
    property yarn.nodemanager.vmem-check-enabled false
    property yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage 99.0
    # A node that died is noticed after a minute here, and after ten on EMR.
    property yarn.nm.liveness-monitor.expiry-interval-ms 60000
    # Containers' output outlives their application.
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
    # A file system of the cluster, as HDFS is on EMR: files of a job are copied into it, and nodes fetch them there.
    property fs.viewfs.mounttable.shared.link./staging "file://$work/staging"
    echo '</configuration>'
} >"$work/conf/core-site.xml"
cat >"$work/conf/log4j.properties" <<'LOG4J'
log4j.rootLogger=INFO,err
log4j.appender.err=org.apache.log4j.ConsoleAppender
log4j.appender.err.layout=org.apache.log4j.PatternLayout
log4j.appender.err.layout.ConversionPattern=%d %p %c{1}: %m%n
LOG4J

jvm=(java -Xmx512m -cp "$work/conf:$work/ivy/jars/*" --add-opens=java.base/java.lang=ALL-UNNAMED
    "-Dyarn.log.dir=$work/logs")
daemons=org.apache.hadoop.yarn.server
begin resourcemanager "${jvm[@]}" $daemons.resourcemanager.ResourceManager
until_it_says 180 '"state":"STARTED"' curl -s "http://127.0.0.1:$web/ws/v1/cluster/info"
for node in 1 2; do
    begin "nodemanager$node" keep_up "${jvm[@]}" $daemons.nodemanager.NodeManager \
        -D "yarn.nodemanager.local-dirs=$work/node$node/local" -D "yarn.nodemanager.log-dirs=$work/node$node/logs"
done
until_it_says 180 '"activeNodes":2' curl -s "http://127.0.0.1:$web/ws/v1/cluster/metrics"
echo "yarn-local.sh: YARN with two nodes at http://127.0.0.1:$web, logs in $work" >&2

export HADOOP_CONF_DIR=$work/conf YARN_WEB=127.0.0.1:$web
PATH=$SPARK_HOME/bin:$PATH "$@" &
started+=($!)
code=0
wait $! || code=$?
exit "$code"
