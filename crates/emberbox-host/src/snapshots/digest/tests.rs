use super::*;

fn file(length: u64, parts: &[(u64, &[u8])]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(length).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).unwrap();
    }
    file
}

const LENGTH: u64 = 10 * BLOCK + 5;

#[test]
fn holes_and_zeros_are_the_same() {
    let parts: [(u64, &[u8]); 3] = [(3, b"one"), (5 * BLOCK - 1, b"two"), (LENGTH - 2, b"ab")];
    let sparse = file(LENGTH, &parts);
    let full = file(LENGTH, &[(0, &vec![0; LENGTH as usize])]);
    for (at, bytes) in parts {
        full.write_all_at(bytes, at).unwrap();
    }
    assert_eq!(of(&sparse).unwrap(), of(&full).unwrap());
}

#[test]
fn every_other_content_has_another_digest() {
    let all = [
        file(0, &[]),
        file(LENGTH, &[]),
        file(LENGTH + 1, &[]),
        file(LENGTH, &[(0, b"a")]),
        file(LENGTH, &[(1, b"a")]),
        file(LENGTH, &[(BLOCK, b"a")]),
        file(LENGTH, &[(0, b"a"), (BLOCK, b"a")]),
    ];
    let digests: std::collections::HashSet<_> = all.iter().map(|file| of(file).unwrap()).collect();
    assert_eq!(digests.len(), all.len());
}
