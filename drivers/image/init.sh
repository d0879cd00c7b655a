#!/bin/busybox sh
# The first process of a node: finds the root image that this initrd was built for, on the network or in a slot of its
# disk, checks it, and hands over to systemd. Every line it says begins with "moxie: ". It never gives anybody a shell.
export PATH=/bin
umask 022
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o nosuid,mode=755 dev /dev
mount -t tmpfs -o nosuid,nodev,mode=755,size=5% run /run
exec >/dev/console 2>&1 </dev/null
mkdir -p /run/moxie/slots /run/moxie/state
. /config    # root_sha256, root_sha512: two digests of the same file

SLOT= IP= GW= MAC= SERVER= HTTP=8080 IMAGE=
for word in $(cat /proc/cmdline); do
  value=${word#*=}
  case $word in
    moxie.slot=*) SLOT=$value ;; moxie.ip=*) IP=$value ;; moxie.gw=*) GW=$value ;; moxie.mac=*) MAC=$value ;;
    moxie.server=*) SERVER=$value ;; moxie.http=*) HTTP=$value ;; moxie.image=*) IMAGE=$value ;;
  esac
done

say() { echo "moxie: $*"; }
# Hundredths of a second since the kernel began. The leading 1 keeps 08 from being read as an octal number.
now() { read up _ </proc/uptime; echo $((${up%.*} * 100 + 1${up#*.} - 100)); }
seconds() { t=$(($(now) - $1)); echo "$((t / 100)).$((t / 10 % 10)) s"; }
fail() {
  say "FAILED: $*"
  sync
  sleep 10
  # From a slot the boot loader tries the good one next; over the network the rack decides whether to power it on again.
  if [ -n "$SLOT" ]; then reboot -f; else poweroff -f; fi
  sleep 1000
}

drivers() {
  pass=0 before=
  while [ $pass -lt 4 ]; do
    found=$(find /sys/devices -name modalias -exec cat {} + 2>/dev/null | sort -u)
    [ "$found" = "$before" ] && break
    modprobe -abq $found 2>/dev/null
    before=$found pass=$((pass + 1))
  done
  modprobe -abq sd_mod loop squashfs overlay crc32c_generic ext4 2>/dev/null
}

nic() {
  want=$(echo "$MAC" | tr A-Z- a-z:)
  tries=0
  while [ $tries -lt 150 ]; do
    for path in /sys/class/net/*; do
      [ "$(cat $path/address 2>/dev/null)" = "$want" ] && { basename $path; return; }
    done
    usleep 100000; tries=$((tries + 1))
  done
}

network() {
  ip link set lo up
  [ -n "$MAC" ] || fail "no moxie.mac on the kernel command line: which network card?"
  NIC=$(nic)
  [ -n "$NIC" ] || fail "no network card with the address $MAC; there are: $(cat /sys/class/net/*/address | tr '\n' ' ')"
  echo 0 2>/dev/null >"/proc/sys/net/ipv6/conf/$NIC/accept_ra" || : # its address comes with its boot, not from whoever says so
  ip link set "$NIC" up || fail "$NIC cannot be switched on"
  tries=0
  while [ "$(cat /sys/class/net/$NIC/carrier 2>/dev/null)" != 1 ] && [ $tries -lt 3000 ]; do
    usleep 20000; tries=$((tries + 1))
  done
  ip addr add "$IP" dev "$NIC" || fail "address $IP: refused"
  [ -z "$GW" ] || ip route add default via "$GW" dev "$NIC" || say "gateway $GW: refused"
  say "network $NIC $IP"
}

size() { stat -c %s $file 2>/dev/null || echo 0; }

# One download, given up when nothing came for 20 s; this busybox's own time limit (wget -T) crashes it.
attempt() {
  wget -q -c -O $file $url 2>/run/wget &
  last=0 still=0
  while kill -0 $! 2>/dev/null; do
    usleep 200000
    got=$(size)
    if [ "$got" = "$last" ]; then still=$((still + 1)); else last=$got still=0; fi
    [ $still -lt 100 ] || { echo "nothing came for 20 s" >/run/wget; kill -9 $!; wait $!; return 1; }
  done
  wait $!
}

fetch() {
  case $IMAGE in ''|*[!0-9a-f]*) fail "moxie.image=$IMAGE on the kernel command line: no image id" ;; esac
  [ -n "$SERVER" ] || fail "neither moxie.server nor moxie.slot on the kernel command line: where is the root image?"
  mkdir -p /run/moxie/ram
  mount -t tmpfs -o nosuid,nodev,noexec,mode=755,size=85% ram /run/moxie/ram
  url=http://$SERVER:$HTTP/images/$IMAGE/root.squashfs file=/run/moxie/ram/root.squashfs
  say "fetching $url"
  begin=$(now) tries=0 pause=1
  # A server that is busy, restarts, or cuts the line: what is there already is kept, and the rest is asked for.
  until attempt; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || fail "root image: $url: $(tail -n 1 /run/wget), $tries times"
    say "root image: $(tail -n 1 /run/wget); again in $pause s ($(($(size) >> 20)) MB so far)"
    sleep $pause
    [ $pause -ge 10 ] || pause=$((pause + 1))
  done
  say "fetched root image $(($(stat -c %s $file) >> 20)) MB in $(seconds $begin)"
}

# A partition by its label; disks that appear late are waited for, $2 tenths of a second.
labelled() {
  tries=0
  until found=$(findfs LABEL=$1 2>/dev/null); do
    [ $tries -lt $2 ] || return 1
    usleep 100000; tries=$((tries + 1))
  done
  echo $found
}

slot() {
  case $SLOT in a|b) ;; *) fail "moxie.slot=$SLOT on the kernel command line: allowed: a, b" ;; esac
  device=$(labelled moxie-slot-$SLOT 300) || fail "no partition labelled moxie-slot-$SLOT within 30 s"
  mkdir -p /run/moxie/slots/$SLOT
  mount -t ext4 -o ro,nosuid,nodev,noexec $device /run/moxie/slots/$SLOT || fail "slot $SLOT ($device): cannot be mounted"
  file=/run/moxie/slots/$SLOT/root.squashfs
  IMAGE=$(sha256sum /run/moxie/slots/$SLOT/manifest.json | cut -c1-16)
  say "root image from slot $SLOT on $device"
}

check() {
  begin=$(now)
  # Twice as fast as SHA-256 on a processor without instructions for it, and this is half of what the initrd does.
  is=$(sha512sum $file | cut -d' ' -f1)
  [ "$is" = "$root_sha512" ] ||
    fail "root image is not what this initrd was built for: SHA-512 is ${is:-unreadable}, wanted $root_sha512"
  echo "$root_sha256" >/run/moxie/root.sha256
  say "checked root image in $(seconds $begin)"
}

state() {
  device=$(labelled moxie-state $1) || return
  if ! mount -t ext4 -o rw,nosuid,nodev,noatime $device /run/moxie/state; then
    say "state partition $device cannot be mounted: this node begins without memory"
    return
  fi
  mkdir -p -m 700 /run/moxie/state/etc /run/moxie/state/lib
  mount -o bind /run/moxie/state/etc /newroot/etc/moxie
  mount -o bind /run/moxie/state/lib /newroot/var/lib/moxie
  say "state on $device"
}

say "initrd begins"
drivers
[ -z "$IP" ] || network
if [ -n "$SLOT" ]; then slot; wait=100; else fetch; wait=0; fi
check
mkdir -p /ro /rw /newroot
mount -t squashfs -o loop,ro,nodev $file /ro || fail "root image cannot be mounted"
mount -t tmpfs -o nodev,mode=755,size=25% rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work root /newroot || fail "overlay cannot be mounted"
state $wait
echo "$IMAGE" >/run/moxie/image
echo "$SLOT" >/run/moxie/slot
rm -f /run/wget
say "starting systemd after $(seconds 0)"
mount -o move /run /newroot/run
mount -o move /dev /newroot/dev
umount /sys
umount /proc
exec switch_root -c /dev/console /newroot /lib/systemd/systemd
