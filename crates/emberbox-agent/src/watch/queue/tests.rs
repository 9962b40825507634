use super::*;

fn change(what: What, path: &str) -> Change {
    Change {
        what,
        path: path.into(),
        is_dir: false,
    }
}

fn leaving(cookie: u32, path: &str) -> Leaving {
    Leaving {
        cookie,
        path: path.into(),
        is_dir: false,
        watches: Vec::new(),
    }
}

#[test]
fn two_halves_are_one_change_in_the_firsts_place() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.push(change(What::Created, "/a"));
    queue.leave(leaving(7, "/a"), now);
    queue.push(change(What::Created, "/a"));
    // What comes after the first half waits for the second.
    assert_eq!(queue.take(), [change(What::Created, "/a")]);
    assert_eq!(queue.due(), Some(now + HALVES));
    assert!(queue.arrive(8, Path::new("/x")).is_none());
    let left = queue.arrive(7, Path::new("/b")).unwrap();
    assert_eq!(left.path, Path::new("/a"));
    let renamed = What::Renamed { from: "/a".into() };
    assert_eq!(
        queue.take(),
        [change(renamed, "/b"), change(What::Created, "/a")]
    );
    assert_eq!(queue.due(), None);
}

#[test]
fn a_half_without_another_is_a_deletion_after_a_while() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.leave(leaving(7, "/a"), now);
    queue.push(change(What::Modified, "/b"));
    assert!(queue.give_up(now).is_empty());
    assert!(queue.take().is_empty());
    queue.give_up(now + HALVES);
    let told = [change(What::Deleted, "/a"), change(What::Modified, "/b")];
    assert_eq!(queue.take(), told);
}

#[test]
fn a_half_is_not_waited_for_when_too_much_waits_behind_it() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.leave(leaving(7, "/a"), now);
    for number in 0..HELD {
        queue.push(change(What::Modified, &format!("/{number}")));
    }
    queue.give_up(now);
    assert_eq!(queue.take().len(), HELD + 1);
}

#[test]
fn writing_on_is_one_change() {
    let mut queue = Queue::default();
    for path in ["/a", "/a", "/b", "/a"] {
        queue.push(change(What::Modified, path));
    }
    assert_eq!(queue.take().len(), 3);
}
