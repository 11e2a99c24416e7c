#!/bin/sh
# kdump-post.sh STATUS: for kdump-utils (Fedora, RHEL), as /etc/kdump/post.d/50-vmcorefs.sh or with kdump_post in /etc/kdump.conf.
# kdump puts it into the capture initramfs and runs it there when the dump has ended, with the dump's exit status.
#
# The root file system need not be mounted there, so /etc/vmcorefs cannot be written to. This script leaves a file
# vmcorefs-finished beside the new dump; vmcorefs-register makes a capture file of it at the next boot.
#
#     install -m 755 kdump-post.sh /etc/kdump/post.d/50-vmcorefs.sh && kdumpctl rebuild
#
# It fails for nothing: what goes wrong here must not keep the machine from rebooting.
set -u

say() {
    echo "vmcorefs: $*"
}

status=${1:-unknown}
conf=${KDUMP_CONF:-/etc/kdump.conf}
if [ "$status" != 0 ]; then
    say "the dump failed (exit status $status), nothing is registered"
    exit 0
fi

# Relative to the dump target, wherever that is mounted here
path=/var/crash
while read -r word value _; do
    [ "$word" != path ] || path=$value
done <"$conf" || say "$conf cannot be read; $path is looked into"

newest=
while read -r _ where _; do
    where=$(printf '%b' "$where") # a space is \040 there
    for file in "$where/$path"/*/vmcore; do
        [ -f "$file" ] || continue
        # shellcheck disable=SC3013 # dash, bash and busybox have it
        if [ -z "$newest" ] || [ "$file" -nt "$newest" ]; then
            newest=$file
        fi
    done
done </proc/self/mounts

if [ -z "$newest" ]; then
    say "no dump is below $path on any file system that is mounted here (ssh and raw targets: run vmcorefs-register where it is kept)"
elif echo "status 0" >"${newest%/*}/vmcorefs-finished"; then
    sync
    say "$newest will be registered at the next boot"
fi
exit 0
