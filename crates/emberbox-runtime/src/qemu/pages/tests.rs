use std::io::Seek;

use super::*;

const MEMORY: u64 = 1024 * PAGE;

fn run(first: u64, count: u64) -> Run {
    Run { first, count }
}

/// A memory file whose given pages are filled with their own number.
fn memory_with(runs: &[Run]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY).unwrap();
    for run in runs {
        for page in run.first..run.first + run.count {
            let fill = [u8::try_from(page % 251).unwrap(); PAGE as usize];
            file.write_all_at(&fill, page * PAGE).unwrap();
        }
    }
    file
}

fn save_file(source: &File) -> File {
    let saved = tempfile::tempfile().unwrap();
    let runs = data_runs(source, MEMORY).unwrap();
    write(&saved, MEMORY, &runs, |batch, mut buffer| {
        for run in batch {
            let (page, rest) = buffer.split_at_mut(bytes(run.count));
            source.read_exact_at(page, run.first * PAGE)?;
            buffer = rest;
        }
        Ok(())
    })
    .unwrap();
    (&saved).rewind().unwrap();
    saved
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_is_saved_comes_back() {
    for runs in [
        vec![],
        vec![run(0, 1)],
        vec![run(3, 2), run(7, 600), run(1023, 1)],
        vec![run(0, 1024)],
    ] {
        let source = memory_with(&runs);
        let saved = save_file(&source);
        let back = tempfile::tempfile().unwrap();
        back.set_len(MEMORY).unwrap();
        load_into_file(&saved, &back, MEMORY).unwrap();
        assert_eq!(content(&back), content(&source), "{runs:?}");
    }
}

#[test]
fn pages_go_out_of_a_process_and_into_it() {
    // This process stands for the VMM's.
    let pid = std::process::id().cast_signed();
    let mut memory = vec![0_u8; 8 * PAGE as usize];
    let start = (memory.as_ptr() as u64).next_multiple_of(PAGE);
    let offset = usize::try_from(start - memory.as_ptr() as u64).unwrap();
    memory[offset..offset + PAGE as usize].fill(7);
    let line = format!(
        "{start:x}-{:x} rw-p 00000000 00:01 5 /memfd:emberbox-seed (deleted)\n",
        start + 4 * PAGE
    );
    let mapping = Mapping::parse(pid, 4 * PAGE, &line).unwrap();
    let runs = mapping.private_runs().unwrap();
    assert_eq!(runs.first().map(|run| run.first), Some(0));
    let mut page = vec![0; PAGE as usize];
    let got = process_vm_readv(
        Pid::from_raw(pid),
        &mut [IoSliceMut::new(&mut page)],
        &mapping.remote(&[run(0, 1)]),
    );
    assert_eq!(got, Ok(PAGE as usize));
    assert!(page.iter().all(|byte| *byte == 7));
}

#[test]
fn batches_are_cut_and_filled() {
    let runs = [run(0, 100), run(200, 300), run(600, 1)];
    let all: Vec<_> = batches(&runs).collect();
    assert_eq!(
        all,
        [
            vec![run(0, 100), run(200, 156)],
            vec![run(356, 144), run(600, 1)]
        ]
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let good = save_file(&memory_with(&[run(1, 2), run(9, 1)]));
    let mut bytes = Vec::new();
    (&good).read_to_end(&mut bytes).unwrap();
    let with = |at: usize, value: u64| {
        let mut changed = bytes.clone();
        changed[at..at + 8].copy_from_slice(&value.to_le_bytes());
        changed
    };
    let first_run = HEADER as usize;
    let damaged = [
        Vec::new(),
        bytes[..20].to_vec(),
        bytes[..bytes.len() - 1].to_vec(),
        with(0, 0),
        with(8, MEMORY * 2),
        with(16, u64::MAX),
        with(16, 3),
        with(first_run, u64::MAX),
        with(first_run, 9),
        with(first_run + 8, 0),
        with(first_run + 8, 9),
    ];
    for (index, content) in damaged.into_iter().enumerate() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.rewind().unwrap();
        let target = tempfile::tempfile().unwrap();
        let outcome = load_into_file(&file, &target, MEMORY);
        assert!(outcome.is_err(), "case {index} was taken");
    }
}
