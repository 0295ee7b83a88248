#!/bin/sh
# Boots a machine whose disk is a layer over the real one: `unshare … machine.sh FOLDER PROJECT INIT…`, in new namespaces
# for mounts, processes, the network and cgroups. Nothing that happens inside reaches the real disk.
#
#   FOLDER    an empty folder, over which the layers are mounted
#   PROJECT   the checkout, which the machine has in /opt/reliable-email, without what is left of earlier runs there
#   INIT      the command to run as PID 1, which is systemd
set -eu
folder="$1"
project="$2"
shift 2
root="$folder/root"

layer() {
  mkdir -p "$folder/layers/$1/changes" "$folder/layers/$1/work"
  mount -t overlay -o "lowerdir=$2,upperdir=$folder/layers/$1/changes,workdir=$folder/layers/$1/work" overlay "$3"
}

# In a chroot, / is no mount whose propagation could be changed.
mount --make-rprivate / 2> /dev/null || true
mount -t tmpfs -o mode=755 tmpfs "$folder"
mount --make-rprivate "$folder"
mkdir "$root"
layer disk / "$root"
mkdir -p "$root/opt/reliable-email"
layer project "$project" "$root/opt/reliable-email"
rm -rf "$root"/var/lib/redis/*
rm -rf "$root/opt/reliable-email/.env" "$root/opt/reliable-email/data" "$root/opt/reliable-email/dist"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for path in dev run tmp var/log; do
  mkdir -p "$root/$path"
  mount -t tmpfs -o mode=755 tmpfs "$root/$path"
done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s null "$root/dev/console"

# Starts only the journal of everything that the real machine would start: the rest is for hardware, or changes the kernel.
rm -rf "$root"/etc/systemd/system "$root"/usr/lib/systemd/system/*.wants
rm -f "$root/usr/lib/systemd/system/systemd-journald-audit.socket"
mkdir "$root/etc/systemd/system"
printf '[Unit]\nWants=systemd-journald.service multi-user.target\n' > "$root/etc/systemd/system/docs.target"
echo '127.0.0.1 localhost mail.example.com' > "$root/etc/hosts"
# Keeps progress meters out of the commands' output.
printf 'silent\nshow-error\n' > "$root/root/.curlrc"

# The command runs the sources, until the executable is installed over it.
cat > "$root/usr/local/bin/reliable-email" << 'END'
#!/bin/sh
exec /opt/reliable-email/node_modules/.bin/bun --no-install /opt/reliable-email/lib/cli/main.ts "$@"
END
chmod 755 "$root/usr/local/bin/reliable-email"

# The kernel refuses user namespaces in a chroot: units there do without.
unshare --user true 2> /dev/null || no_users=yes
cd "$root"
if pivot_root . . 2> /dev/null; then
  umount --lazy .
  cd /
else
  no_users=yes
  set -- chroot . "$@"
fi
# systemd hands credentials to services this way, and leaves it to whoever starts a container to allow it.
mount --make-rshared .
if [ -n "${no_users:-}" ]; then
  mkdir etc/systemd/system/service.d
  printf '[Service]\nPrivateUsers=no\n' > etc/systemd/system/service.d/chroot.conf
fi
exec env -i container=other PATH=/usr/bin:/usr/sbin "$@"
