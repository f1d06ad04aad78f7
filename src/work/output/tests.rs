#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use proptest::prelude::*;

use super::*;

fn lines(max_output: usize, chunks: &[&[u8]]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut output = Output::new(max_output);
    for chunk in chunks {
        output.push(Stream::Stdout, chunk, &mut |piece| pieces.push(piece));
    }
    output.finish(&mut |piece| pieces.push(piece));
    pieces
}

fn line(text: &str) -> Piece {
    Piece::Line(Stream::Stdout, text.to_owned())
}

#[test]
fn lines_come_out_whole_wherever_the_reads_split_them() {
    let printed = "eins\nzw\u{f6}lf\n\nlast".as_bytes();
    let expected = [line("eins"), line("zw\u{f6}lf"), line(""), line("last")];
    for at in 0..=printed.len() {
        let (a, b) = printed.split_at(at);
        assert_eq!(lines(1000, &[a, b]), expected, "split at {at}");
    }
}

#[test]
fn nothing_printed_can_forge_a_line_or_change_how_one_is_read() {
    let cases: [(&[u8], &str); 11] = [
        (b"a\rb", r"a\rb"),
        (b"a\tb", r"a\tb"),
        (b"\x1b[2Jgone\x07", r"\x1b[2Jgone\x07"),
        (b"\0\x7f", r"\x00\x7f"),
        (b"\xff\xc3", r"\xff\xc3"),
        (b"back\\nslash", r"back\\nslash"),
        ("\u{85}\u{9b}1m".as_bytes(), r"\u{85}\u{9b}1m"),
        ("\u{202e}txet\u{2066}".as_bytes(), r"\u{202e}txet\u{2066}"),
        ("a\u{2028}b\u{2029}".as_bytes(), r"a\u{2028}b\u{2029}"),
        ("\u{200b}\u{feff}\u{e0041}".as_bytes(), r"\u{200b}\u{feff}\u{e0041}"),
        ("it's \"fine\": \u{e4}\u{4e2d}e\u{301}".as_bytes(), "it's \"fine\": \u{e4}\u{4e2d}e\u{301}"),
    ];
    let mut ran = 0;
    for (printed, expected) in cases {
        assert_eq!(lines(1000, &[printed]), [line(expected)]);
        ran += 1;
    }
    assert_eq!(ran, 11);
}

#[test]
fn a_long_line_is_cut_and_marked_and_the_next_one_is_whole() {
    let longest = "x".repeat(LINE_MAX);
    assert_eq!(lines(10_000, &[longest.as_bytes(), b"\n"]), [line(&longest)]);
    assert_eq!(
        lines(10_000, &[longest.as_bytes(), b"y and more\nnext\n"]),
        [line(&format!("{longest}\\cut")), line("next")]
    );
}

#[test]
fn a_line_that_grows_by_escaping_is_cut_between_two_characters() {
    let printed = [0x1b; LINE_MAX];
    assert_eq!(lines(10_000, &[&printed]), [line(&format!("{}\\cut", r"\x1b".repeat(256)))]);
    let umlauts = "\u{e4}".repeat(LINE_MAX);
    let cut = format!("x{}\\cut", "\u{e4}".repeat(511));
    assert_eq!(lines(10_000, &[b"x", umlauts.as_bytes()]), [line(&cut)]);
}

#[test]
fn a_script_cannot_print_the_mark_of_a_cut_line() {
    assert_eq!(lines(100, &[b"text\\cut"]), [line(r"text\\cut")]);
}

#[test]
fn output_beyond_its_maximum_is_thrown_away_with_one_notice() {
    let line_of_20 = b"a line of 20 bytes.\n";
    let whole = line("a line of 20 bytes.");
    assert_eq!(lines(40, &[line_of_20, line_of_20]), [whole.clone(), whole.clone()]);
    assert_eq!(lines(25, &[line_of_20, line_of_20, b"more\n"]), [whole, line("a lin"), Piece::Cut]);
    assert_eq!(lines(0, &[b"x"]), [Piece::Cut]);
}

#[test]
fn both_streams_share_one_maximum_and_keep_their_lines_apart() {
    let mut pieces = Vec::new();
    let mut output = Output::new(30);
    let mut out = |piece| pieces.push(piece);
    output.push(Stream::Stdout, b"half ", &mut out);
    output.push(Stream::Stderr, b"an error of 20 bytes\n", &mut out);
    output.push(Stream::Stdout, b"a line", &mut out);
    output.finish(&mut out);
    assert_eq!(
        pieces,
        [
            Piece::Line(Stream::Stderr, "an error of 20 bytes".to_owned()),
            line("half a li"),
            // What is left of 30 bytes.
            Piece::Cut,
        ]
    );
    assert_eq!(output.state(), State::Cut);
}

#[test]
fn newlines_alone_do_not_make_a_line_of_log_per_byte() {
    let printed = [b'\n'; 64 * 1024];
    assert_eq!(lines(64 * 1024, &[&printed]).len(), 64 * 1024 / LINE_COST + 1);
}

proptest! {
    #[test]
    fn however_it_is_printed_what_comes_out_is_bounded_and_safe(
        chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..700)), 0..20),
        max_output in 0_usize..6000,
    ) {
        let mut pieces = Vec::new();
        let mut output = Output::new(max_output);
        for (first, chunk) in &chunks {
            let stream = if *first { Stream::Stdout } else { Stream::Stderr };
            output.push(stream, chunk, &mut |piece| pieces.push(piece));
        }
        output.finish(&mut |piece| pieces.push(piece));
        let printed: usize = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let mut cuts = 0;
        let mut total = 0;
        for piece in &pieces {
            match piece {
                Piece::Line(_, text) => {
                    prop_assert!(text.len() <= LINE_MAX + MARK.len());
                    prop_assert!(!text.chars().any(|c| c.is_control() || deceives(c)));
                    total += text.len();
                }
                Piece::Cut => cuts += 1,
            }
        }
        prop_assert!(cuts <= 1);
        // The longest escape of one byte has four.
        prop_assert!(total <= 4 * max_output.min(printed) + MARK.len() * pieces.len());
        prop_assert!(pieces.len() <= max_output / LINE_COST + 4);
    }
}
