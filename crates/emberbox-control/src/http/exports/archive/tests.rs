use super::command;

#[test]
fn any_path_is_one_word_below_the_root() {
    let paths = ["/a b", "/it's", "/-rf", "/", "/$(reboot)"].map(str::to_owned);
    let expected =
        r"exec tar -czf - --one-file-system -- './a b' './it'\''s' './-rf' './' './$(reboot)'";
    assert_eq!(command(&paths), expected);
}
