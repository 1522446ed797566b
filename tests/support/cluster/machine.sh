# Runs as process 1 of one machine's namespaces and becomes its sshd. Environment: see `Machine` in lab.py.
set -eu

# Own temporary, home and runtime folders; the checkout is not here, nor its environment. Of the host's Python there is
# the interpreter, as a distribution's python3.
mount -t tmpfs none /mnt
mkdir /mnt/python /mnt/image
mount --rbind "$PYTHON_HOME" /mnt/python
mount --bind "$IMAGE" /mnt/image
for folder in $HIDDEN; do
    mkdir -p "$folder"
    mount -t tmpfs -o size=2g,mode=755 none "$folder"
done
chmod 1777 /tmp /dev/shm
mkdir -p "$PYTHON_HOME" /run/sshd /run/image
mount --move /mnt/python "$PYTHON_HOME"
mount -o remount,bind,ro "$PYTHON_HOME"
for packages in "$PYTHON_HOME"/lib/python3*/site-packages; do
    [ ! -d "$packages" ] || mount -t tmpfs none "$packages"
done
mount --move /mnt/image /run/image
mount -o remount,bind,ro /run/image
umount /mnt
chmod 711 /root
mount -t tmpfs -o mode=755 none /usr/local/bin
printf '#!/bin/sh\nexec %s/bin/python3 "$@"\n' "$PYTHON_HOME" >/usr/local/bin/python3
chmod 755 /usr/local/bin/python3

hostname "$NAME"
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NAME" >/run/hosts
mount --bind /run/hosts /etc/hosts
: >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf

# A user to log in as.
{ grep -v '^ubuntu:\|:x:1000:' /etc/passwd; echo 'ubuntu:x:1000:1000::/home/ubuntu:/bin/bash'; } >/run/passwd
{ grep -v '^ubuntu:' /etc/shadow; echo 'ubuntu:*:19000:0:99999:7:::'; } >/run/shadow
chmod 600 /run/shadow
mount --bind /run/passwd /etc/passwd
mount --bind /run/shadow /etc/shadow
home=$(getent passwd "$LOGIN" | cut -d: -f6)
mkdir -p "$home/.ssh"
printf '%s\n' "$PUBLIC_KEY" >"$home/.ssh/authorized_keys"
chmod 700 "$home/.ssh"

# Its home is one in which node.sh has run: all is copied but the packages, which are large.
(cd /run/image && find . -path ./python/lib -prune -o ! -type d -print0 | xargs -0 cp --parents -P -t "$home")
find "$home/python/bin" "$home/rungwise" -type f -exec sed -i "s|$IMAGE|$home|g" {} +
printf '%s\n' "$BASHRC" >>"$home/.bashrc"
find "$home" -xdev ! -path "$PYTHON_HOME" -exec chown -h "$LOGIN" {} +    # the Python may lie below it
mkdir "$home/python/lib"
mount --bind /run/image/python/lib "$home/python/lib"
umount /run/image

# The laptop plugs the cable in.
ip link set lo up
tries=0
until ip link show eth0 >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 500 ]
    sleep 0.02
done
ip address add "$ADDRESS/$PREFIX" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"
[ -z "$PUBLIC" ] || ip address add "$PUBLIC/32" dev lo

ssh-keygen -q -t ed25519 -N '' -f /run/hostkey
cat >/run/sshd_config <<'CONFIG'
HostKey /run/hostkey
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 100
MaxSessions 100
CONFIG
exec /usr/sbin/sshd -D -e -f /run/sshd_config
