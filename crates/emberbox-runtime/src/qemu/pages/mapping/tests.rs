use super::*;

const MEMORY: u64 = 0x3000;

fn parsed(maps: &str) -> Option<(u64, Sharing, String)> {
    let mapping = Mapping::parse(1, MEMORY, maps)?;
    Some((mapping.start, mapping.sharing, mapping.first))
}

#[test]
fn guest_memory_is_found_by_its_name_and_size() {
    let noise = "00400000-00401000 r-xp 00000000 08:01 7 /usr/bin/qemu-system-x86_64\n\
                 7f00-8f00 rw-p 00000000 00:00 0 \n";
    let seed = "10000-13000 rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n";
    let own = "10000-13000 rw-s 00000000 00:01 5 /memfd:emberbox-memory (deleted)\n";
    let whole = |sharing| Some((0x10000, sharing, "10000-13000".to_owned()));
    assert_eq!(parsed(&format!("{noise}{seed}")), whole(Sharing::Private));
    assert_eq!(parsed(&format!("{own}{noise}")), whole(Sharing::Shared));
}

#[test]
fn parts_that_lie_beside_each_other_are_one() {
    let parts = "10000-11000 rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n\
                 11000-13000 rw-p 00001000 00:01 5 /memfd:emberbox-seed (deleted)\n";
    let whole = (0x10000, Sharing::Private, "10000-11000".to_owned());
    assert_eq!(parsed(parts), Some(whole));
}

#[test]
fn what_is_not_the_whole_memory_is_refused() {
    for maps in [
        "",
        "10000-12000 rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        "10000-14000 rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        "10000-13000 rw-p 00001000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        "10000-13000 r--p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        "10000-13000 rw-s 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        "10000-13000 rw-p 00000000 00:01 5 /memfd:emberbox-memory (deleted)\n",
        "10000-11000 rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n\
         12000-14000 rw-p 00001000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        "10000-13000 rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n\
         20000-23000 rw-p 00000000 00:01 6 /memfd:emberbox-seed (deleted)\n",
    ] {
        assert_eq!(parsed(maps), None, "{maps}");
    }
}

#[test]
fn a_page_is_the_guests_own_once_it_is_no_longer_the_files() {
    for (entry, own) in [
        (0, false),
        (PRESENT | OF_FILE, false),
        (PRESENT, true),
        (SWAPPED, true),
        (OF_FILE, false),
    ] {
        assert_eq!(is_own(entry), own, "{entry:x}");
    }
}
