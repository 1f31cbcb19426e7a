#!/usr/bin/env bash
# Bootstrap action, on every node of a GPU cluster: cgroups for YARN's GPU isolation. Can be run again.
#
# It runs before EMR installs applications, so that nvidia-smi may not be there yet: it mounts in any case, looks for
# the GPU itself, and checks the driver only where there is one. Training checks the driver again when it starts.
set -euo pipefail

root=${SLICEMILL_CGROUP_ROOT:-/slicemill-cgroup}
devices=${SLICEMILL_PCI_DEVICES:-/sys/bus/pci/devices}
# Oldest driver that runs a CUDA 12 build of torch.
oldest=525.60.13

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# AL2023 has version 2 of cgroups; YARN's GPU module wants the devices controller of version 1.
as_root mkdir -p "$root/devices"
if ! mountpoint -q "$root/devices"; then
    as_root mount -t cgroup -o devices cgroupv1-devices "$root/devices"
fi
# The node manager, user yarn, makes a group a container in it.
as_root chmod -R a+rwX "$root"

# NVIDIA's number among the makers of PCI devices, and the classes of displays and of 3D controllers.
has_gpu() {
    local device
    for device in "$devices"/*; do
        [[ -e $device/vendor && $(<"$device/vendor") == 0x10de && $(<"$device/class") == 0x03* ]] && return 0
    done
    return 1
}

if ! has_gpu; then
    echo "gpu.sh: this node has no GPU; cgroups at $root"
elif ! command -v nvidia-smi >/dev/null; then
    echo "gpu.sh: a GPU whose driver is not installed yet; cgroups at $root"
else
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | sort -V | head -n 1)
    if [[ $(printf '%s\n%s\n' "$oldest" "$driver" | sort -V | head -n 1) != "$oldest" ]]; then
        echo "gpu.sh: driver $driver is too old, torch's CUDA 12 build needs $oldest" >&2
        exit 1
    fi
    echo "gpu.sh: driver $driver, cgroups at $root"
fi
