#!/usr/bin/env bash
# Bootstrap action, on every node of a GPU cluster: cgroups for YARN's GPU isolation, and the script by which
# Spark finds a container's GPUs. Does nothing on nodes without a GPU. Can be run again.
set -euo pipefail

root=${SLICEMILL_CGROUP_ROOT:-/slicemill-cgroup}
tools=${SLICEMILL_GPU_TOOLS:-/opt/slicemill-gpu}
# Oldest driver that runs a CUDA 12 build of torch.
oldest=525.60.13

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# YARN hides a container's GPUs from it except its own, so what nvidia-smi lists is what the executor has.
as_root mkdir -p "$tools"
as_root tee "$tools/discover.sh" >/dev/null <<'SCRIPT'
#!/usr/bin/env bash
# Prints a container's GPUs as Spark's resource discovery reads them.
set -euo pipefail
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader)
if [[ -z $addresses ]]; then
    echo "discover.sh: nvidia-smi lists no GPU" >&2
    exit 1
fi
printf '{"name": "gpu", "addresses": ["%s"]}\n' "$(sed ':a;N;$!ba;s/\n/", "/g' <<<"$addresses")"
SCRIPT
as_root chmod 755 "$tools" "$tools/discover.sh"

if ! command -v nvidia-smi >/dev/null; then
    echo "gpu.sh: no nvidia-smi, so this node has no GPU to prepare"
    exit 0
fi

driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | sort -V | head -n 1)
if [[ $(printf '%s\n%s\n' "$oldest" "$driver" | sort -V | head -n 1) != "$oldest" ]]; then
    echo "gpu.sh: driver $driver is too old, torch's CUDA 12 build needs $oldest" >&2
    exit 1
fi

# AL2023 has version 2 of cgroups; YARN's GPU module wants the devices controller of version 1.
as_root mkdir -p "$root/devices"
if ! mountpoint -q "$root/devices"; then
    as_root mount -t cgroup -o devices cgroupv1-devices "$root/devices"
fi
# The node manager, user yarn, makes a group a container in it.
as_root chmod -R a+rwX "$root"
echo "gpu.sh: driver $driver, cgroups at $root"
