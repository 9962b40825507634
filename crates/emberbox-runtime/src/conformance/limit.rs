//! What a VM was given is what it gets, and no more.

use super::{Fixture, Outcome, SHAPE, check, failed};
use crate::disk;

/// Disk and memory outside the guest that may come on top, in bytes.
const SLACK: u64 = 16 << 20;

/// A guest that fills its disk gets an error, and takes no more of the host.
pub(super) async fn the_disk_is_bounded(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("disk").await?;
    guest.refuses("head -c 1G /dev/zero > /root/full").await?;
    let taken = disk::allocated_bytes(&guest.spec.scratch).map_err(failed)?;
    let limit = (u64::from(SHAPE.disk_mib) << 20) + SLACK;
    check(taken <= limit, || {
        format!("the scratch disk takes {taken} bytes")
    })?;
    // It can go on: room comes back when files go.
    guest
        .say("rm /root/full && echo fine > /root/again && cat /root/again")
        .await?;
    fixture.end(guest).await
}

/// A guest sees its shape's memory; a process that wants more is killed in
/// the guest, and the guest lives on.
pub(super) async fn the_memory_is_bounded(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("memory").await?;
    let total = guest
        .say("awk '/MemTotal/ {print $2}' /proc/meminfo")
        .await?;
    let total_mib: u32 = total.parse::<u32>().unwrap_or(0) / 1024;
    let fits = total_mib <= SHAPE.memory_mib && total_mib > SHAPE.memory_mib * 3 / 4;
    check(fits, || format!("the guest sees {total_mib} MiB"))?;
    guest
        .refuses("python3 -c 'x = bytearray(2 * 1024 ** 3)'")
        .await?;
    guest.refuses("tail /dev/zero").await?;
    let said = guest.say("echo alive").await?;
    check(said == "alive", || format!("it said {said:?}"))?;
    fixture.end(guest).await
}
