# The rig's first process, after /proc, /sys, /dev and /rig are mounted.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t devpts devpts /dev/pts -o mode=620,gid=5
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run -o mode=755
mount -t tmpfs tmpfs /tmp -o mode=1777
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sfn /proc/self/fd /dev/fd

# Its processor was chosen so that this is the one.
modprobe kvm_amd
modprobe -a tun veth overlay nf_tables

ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
echo nameserver 10.0.2.3 > /etc/resolv.conf
hostname rig

# The machine that made the images in the home, as far as it shows in their names.
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d
cp -r /rig/machine/. /

share=trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose
mkdir -p @WORKSPACE@ @HOME@ /programs /home-below /home-above/upper /home-above/work
mount -t 9p -o $share programs /programs
mount -t 9p -o $share workspace @WORKSPACE@
mount -t 9p -o $share home /home-below
# What is made there stays on the rig's own disk.
mount -t overlay -o lowerdir=/home-below,upperdir=/home-above/upper,workdir=/home-above/work \
    home @HOME@

# What is copied, as memory into a snapshot, stays within one file system, and
# takes none of the rig's memory.
mkdir -p @HOME@/tmp
export TMPDIR=@HOME@/tmp

cd @WORKSPACE@
@EXPORTS@
@COMMAND@ < /dev/null > /rig/output 2>&1
echo $? > /rig/exit-code
sync
