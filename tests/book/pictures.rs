//! The pictures show what is so, and are as the script draws them.

use std::process::Command;

use siglatch::reason::DropReason;

use crate::{file, read};

#[test]
fn the_pictures_are_as_the_script_draws_them() {
    let output = Command::new(file("scripts/pictures")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_codes_in_the_datagrams_way_are_those_of_the_catalogue() {
    let picture = read("docs/pictures/way.svg");
    let mut codes = 0;
    for line in picture.lines().filter(|line| line.starts_with("<text class=\"code\"")) {
        for code in line.split('>').nth(1).unwrap().split('<').next().unwrap().split_whitespace() {
            let is_one = DropReason::ALL.iter().any(|reason| reason.code() == code);
            assert!(is_one || code == "(kernel-drops)", "{code}");
            codes += 1;
        }
    }
    assert!(codes > 15, "only {codes} codes");
}
