//! People and their keys, as the administrator looks after them: `siglatchctl user`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod programs;

use programs::{Desk, Said, names};
use siglatch::wire::Invite;

const AT: [&str; 2] = ["--config", "srv/siglatchd.toml"];
const CONFIG: &str = "srv/siglatchd.toml";

fn made() -> Desk {
    let desk = Desk::new();
    desk.ctl(&["init", "srv", "--host", "vpn.example.org"]).ok();
    desk
}

fn user(desk: &Desk, args: &[&str]) -> Said {
    desk.ctl(&[&["user"], args, &AT].concat())
}

fn table(desk: &Desk, name: &str) -> toml::Table {
    let config: toml::Table = desk.read(CONFIG).parse().unwrap();
    config["users"][name].as_table().unwrap().clone()
}

fn line(said: &Said) -> String {
    let (_, line) = said.out.split_once("siglatch1:").unwrap();
    format!("siglatch1:{}", line.lines().next().unwrap())
}

#[test]
fn an_invite_is_a_file_and_a_line_and_either_makes_the_same_profile() {
    let desk = made();
    let said = user(&desk, &["add", "alice", "--action", "hello"]).ok();
    let line = line(&said);
    desk.siglatch(&["join", "alice.invite.toml", "--name", "file"]).ok();
    desk.siglatch(&["join", &line, "--name", "line"]).ok();
    let folded = format!("{}\n  {}\n", &line[..100], &line[100..]);
    let from_mail = ["join", "-", "--name", "mail"];
    desk.run(env!("CARGO_BIN_EXE_siglatch"), &from_mail, folded.as_bytes()).ok();
    let profile = |name: &str| desk.read(&format!("home/.config/siglatch/{name}.toml")).replace(name, "NAME");
    assert_eq!(profile("line"), profile("file"));
    assert_eq!(profile("mail"), profile("file"));
    desk.siglatch(&["join", &line[..line.len() - 1], "--name", "cut"])
        .failed(78, "this line is not as it was made: it was cut or mistyped");
    desk.siglatch(&["join", "siglatch7:abc", "--name", "new"]).failed(78, "made by a newer siglatch");
    desk.siglatch(&["join", "siglatch:abc"]).failed(78, "siglatch:abc is not there");
}

#[test]
fn an_invite_is_a_picture_on_the_terminal_or_in_a_file_that_programs_read() {
    let desk = made();
    let said = user(&desk, &["add", "alice", "--action", "hello", "--qr"]).ok();
    let rows = said.out.lines().filter(|line| line.contains('\u{2588}')).count();
    assert!((30..60).contains(&rows), "{}", said.out);

    user(&desk, &["add", "bob", "--action", "hello", "--qr=bob.png"]).ok();
    assert_eq!(desk.mode("bob.png"), 0o600);
    let read = "
import struct, sys, zlib
data = open('bob.png', 'rb').read()
assert data[:8] == b'\\x89PNG\\r\\n\\x1a\\n'
at, pixels, kinds = 8, b'', []
while at < len(data):
    size, kind = struct.unpack('>I4s', data[at:at + 8])
    body = data[at + 8:at + 8 + size]
    assert struct.unpack('>I', data[at + 8 + size:at + 12 + size])[0] == zlib.crc32(kind + body), kind
    kinds.append(kind)
    if kind == b'IHDR': width, height = struct.unpack('>II', body[:8])
    if kind == b'IDAT': pixels += body
    at += 12 + size
assert kinds == [b'IHDR', b'IDAT', b'IEND'], kinds
rows = zlib.decompress(pixels)
stride = 1 + (width + 7) // 8
assert width == height and len(rows) == stride * height, (width, height, len(rows))
dark = lambda x, y: not rows[y * stride + 1 + x // 8] >> (7 - x % 8) & 1
# The corner that cameras look for: seven modules of four pixels, behind a margin of four.
print(''.join('#' if dark(4 * m + 2, 18) else '.' for m in range(12)))
print(''.join('#' if dark(4 * m + 2, 22) else '.' for m in range(12)))
";
    let said = desk.run("python3", &["-c", read], b"").ok();
    assert_eq!(said.out.lines().collect::<Vec<_>>(), ["....#######.", "....#.....#."]);
    user(&desk, &["add", "carol", "--action", "hello", "--qr=no/such/carol.png"]).failed(78, "carol.png");
    assert!(!desk.path("srv/keys/carol.hmac").exists());
}

#[test]
fn a_table_of_people_is_added_whole() {
    let desk = made();
    desk.write("invites/keep", "", 0o600);
    let people = "name,actions,not_after,max_knocks\nalice,hello whoami,,\nbob,hello,2030-12-31,3\n";
    desk.write("people.csv", people, 0o600);
    let said = user(&desk, &["add", "--from", "people.csv", "--invite", "invites"]).ok();
    for told in ["added alice (1)", "added bob (2)", "hand each *.invite.toml"] {
        assert!(said.out.contains(told), "{told}: {}", said.out);
    }
    assert!(!said.out.contains("siglatch1:"));
    assert_eq!(names(&desk.path("invites")), ["alice.invite.toml", "bob.invite.toml", "keep"]);
    let bob = Invite::parse(&desk.read("invites/bob.invite.toml")).unwrap();
    assert_eq!((bob.user_id.0, bob.actions.len()), (2, 1));
    let bob = table(&desk, "bob");
    assert_eq!(
        (bob["not_after"].to_string(), bob["max_knocks"].as_integer()),
        ("2030-12-31".to_owned(), Some(3))
    );
    desk.write("more.csv", "name,actions\ncarol,hello\n", 0o600);
    user(&desk, &["add", "--from", "more.csv", "--invite", "new/invites"]).ok();
    assert_eq!(
        (desk.mode("new/invites"), names(&desk.path("new/invites"))),
        (0o700, vec!["carol.invite.toml".to_owned()])
    );
    user(&desk, &["remove", "carol", "--yes"]).ok();
    let list = user(&desk, &["list"]).ok().out;
    let shown: Vec<&str> = list.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(shown, ["bob", "2", "hello", "keys/bob.hmac", "yes", "2030-12-31", "3"]);
}

#[test]
fn a_table_of_people_with_anything_wrong_in_it_adds_nobody() {
    let desk = made();
    user(&desk, &["add", "zoe", "--action", "hello"]).ok();
    let before = desk.read(CONFIG);
    let people = "name,actions,id,not_after\nalice,hello,,\nzoe,hello,,\nbob,hullo,,\ncarol,hello,1,\n\
                  dave,hello,7,\neve,hello,7,\nfrank,hello,,tomorrow\n";
    desk.write("people.csv", people, 0o600);
    let said = user(&desk, &["add", "--from", "people.csv"]);
    for told in [
        "people.csv: line 3: ",
        "there is a user zoe already",
        "people.csv: line 4: ",
        "no action hullo",
        "people.csv: line 5: ",
        "the id 1 is zoe's",
        "people.csv: line 7: ",
        "the id 7 is dave's",
        "people.csv: line 8: \"tomorrow\" is neither a date nor a moment",
        "nothing was changed",
    ] {
        assert!(said.err.contains(told), "{told}: {}", said.err);
    }
    said.failed(64, "line 8");
    assert_eq!(desk.read(CONFIG), before);
    assert_eq!(names(&desk.path("srv/keys")), ["zoe.hmac"]);

    desk.write("people.csv", "name\nalice\n", 0o600);
    user(&desk, &["add", "--from", "people.csv"])
        .failed(64, "people.csv: line 1: there is no column named actions");
    desk.write("people.csv", "", 0o600);
    user(&desk, &["add", "--from", "people.csv"]).failed(64, "has nobody in it");
    desk.write("people.csv", "name,actions\nalice,hello\nbob,hello\n", 0o600);
    desk.write("bob.invite.toml", "mine", 0o600);
    user(&desk, &["add", "--from", "people.csv"]).failed(78, "bob.invite.toml: is there already");
    user(&desk, &["add", "carol", "--from", "people.csv"]).failed(64, "cannot be used with");
    assert_eq!(desk.read(CONFIG), before);
    assert_eq!(names(&desk.path("srv/keys")), ["zoe.hmac"]);
}

#[test]
fn a_guest_is_added_shown_and_removed() {
    let desk = made();
    user(&desk, &["add", "guest", "--action", "hello", "--not-after", "2020-01-31", "--max-knocks", "3"])
        .ok();
    user(&desk, &["add", "alice", "--action", "hello"]).ok();
    let said = user(&desk, &["show", "guest"]).ok().out;
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        &["user", "guest"][..],
        &["id", "1"],
        &["actions", "[\"hello\"]"],
        &["not_after", "2020-01-31,", "OVER"],
        &["max_knocks", "3"],
        &["ran", "0", "of", "3"],
    ] {
        assert!(rows.iter().any(|told| told == row), "{row:?}: {said}");
    }
    assert!(said.contains("\"keys/guest.hmac\", "), "{said}");
    user(&desk, &["show", "nobody"]).failed(64, "there is no user nobody");

    let before = desk.read(CONFIG);
    user(&desk, &["remove", "guest"]).failed(64, "--yes says that you mean it");
    user(&desk, &["remove", "nobody", "--yes"]).failed(64, "there is no user nobody");
    assert_eq!(desk.read(CONFIG), before);
    let said = user(&desk, &["remove", "guest", "--yes"]).ok();
    assert!(said.out.contains("siglatchd does not run"), "{}", said.out);
    assert!(!desk.read(CONFIG).contains("guest"));
    assert!(desk.read(CONFIG).contains("[users.alice]"));
    assert_eq!(names(&desk.path("srv/keys")), ["alice.hmac"]);
    assert_eq!(desk.read("srv/siglatchd.toml.before-remove"), before);
    assert_eq!(desk.mode("srv/siglatchd.toml.before-remove"), 0o600);
}

#[test]
fn who_is_asked_before_a_user_goes_can_still_say_no() {
    let desk = made();
    user(&desk, &["add", "alice", "--action", "hello"]).ok();
    let remove = format!("{} user remove alice --config {CONFIG}", env!("CARGO_BIN_EXE_siglatchctl"));
    let said = desk.at_terminal(&remove, "type yes: ", "no\n");
    assert!(said.code == 75 && said.out.contains("nothing was changed"), "{}", said.out);
    assert!(desk.path("srv/keys/alice.hmac").exists());
    assert_eq!(desk.at_terminal(&remove, "keys/alice.hmac; type yes: ", "yes\n").code, 0);
    assert!(!desk.path("srv/keys/alice.hmac").exists());
}

#[test]
fn a_user_of_an_included_file_goes_from_there_and_a_shared_key_stays() {
    let desk = made();
    let include = format!("include = [\"users.d/*.toml\"]\n{}", desk.read(CONFIG));
    desk.write(CONFIG, &include, 0o600);
    desk.write("srv/users.d/k.hmac", "ab".repeat(32), 0o600);
    let both =
        "[users.yan]\nid = 2\nhmac_key = \"k.hmac\"\n\n# kept\n[users.zoe]\nid = 3\nhmac_key = \"k.hmac\"\n";
    desk.write("srv/users.d/a.toml", both, 0o600);
    user(&desk, &["remove", "yan", "--yes"]).ok();
    assert_eq!(desk.read("srv/users.d/a.toml").trim(), "# kept\n[users.zoe]\nid = 3\nhmac_key = \"k.hmac\"");
    assert_eq!(desk.read("srv/users.d/a.toml.before-remove"), both);
    assert!(desk.path("srv/users.d/k.hmac").exists(), "zoe has it");
    assert_eq!(desk.read(CONFIG), include);
    user(&desk, &["remove", "zoe", "--yes"]).ok();
    assert!(!desk.path("srv/users.d/k.hmac").exists());
}

#[test]
fn a_key_that_the_service_manager_hands_over_is_shown_as_one() {
    let desk = made();
    user(&desk, &["add", "alice", "--action", "hello"]).ok();
    let handed_over = desk.read(CONFIG).replace("\"keys/alice.hmac\"", "\"credential:alice\"");
    desk.write(CONFIG, handed_over, 0o600);
    let said = user(&desk, &["show", "alice"]).ok().out;
    assert!(said.contains("\"credential:alice\", which the service manager hands over"), "{said}");
}
