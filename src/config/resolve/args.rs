//! What a script is given: `run` or `undo`, `args` and `env`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::section::Section;
use crate::config::files;
use crate::config::raw::{RawAction, Text, Texts};
use crate::config::resolved::{Arg, Args, Program};

/// The program and the arguments in `run` behind it.
pub(super) fn run(action: &mut Section<'_>, raw: &RawAction) -> Option<Program> {
    if raw.nft.is_some() {
        return Some(super::nft::program());
    }
    let hint = "write run = [\"/etc/siglatch/actions/...\"]";
    let texts = action.required("run", &raw.run, hint)?;
    program(action, "run", texts)
}

/// The program of `key` and the arguments behind it.
pub(super) fn program(action: &mut Section<'_>, key: &str, texts: &Texts) -> Option<Program> {
    let Some((program, fixed)) = texts.get_ref().split_first() else {
        let hint = format!("write {key} = [\"/etc/siglatch/actions/...\"]");
        action.error(texts.span(), format!("`{key}` is empty"), hint);
        return None;
    };
    let path = PathBuf::from(program.get_ref());
    if let Err(mut bad) = files::check_program(&path) {
        if program.get_ref().contains(' ') && path.symlink_metadata().is_err() {
            let words: Vec<String> = program.get_ref().split(' ').map(|word| format!("{word:?}")).collect();
            bad.hint = Some(format!("each argument is a text of its own: {key} = [{}]", words.join(", ")));
        }
        action.bad_file(program.span(), &bad);
    }
    for text in fixed {
        action.no_nul(text);
        if placeholder(text.get_ref()).is_some() {
            let what = format!("{text} stands for nothing in `{key}`");
            action.error(text.span(), what, "placeholders go into `args`");
        }
    }
    Some(Program { path, args: fixed.iter().map(|text| text.get_ref().clone()).collect() })
}

/// What follows the elements of `run`.
pub(super) fn args(action: &mut Section<'_>, raw: &RawAction) -> Args {
    match &raw.args {
        _ if raw.nft.is_some() => Args::List(Vec::new()),
        None => Args::Siglatch,
        Some(texts) => Args::List(texts.get_ref().iter().map(|text| arg(action, text)).collect()),
    }
}

/// Additions to the environment. `LD_*` is passed on: who writes this file chooses the program anyway.
pub(super) fn env(action: &mut Section<'_>, raw: &RawAction) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in raw.env.iter().flat_map(toml::Spanned::get_ref) {
        let text = name.get_ref();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(fits) {
            let what = "this is no name for an environment variable";
            action.error(name.span(), what, "it has letters, digits and _, and no digit in front");
        } else if text == "PATH" || text.starts_with("SIGLATCH_") {
            let what = format!("{text} is set by siglatchd itself");
            action.error(name.span(), what, "choose another name");
        }
        action.no_nul(value);
        env.insert(text.clone(), value.get_ref().clone());
    }
    env
}

fn arg(action: &mut Section<'_>, text: &Text) -> Arg {
    action.no_nul(text);
    let written = text.get_ref();
    let literal = Arg::Literal(written.clone());
    if !written.contains(['{', '}']) {
        return literal;
    }
    placeholder(written).unwrap_or_else(|| {
        let known: Vec<&str> = PLACEHOLDERS.iter().map(|(name, _)| *name).collect();
        let hint = format!("an argument with braces is one of {}, and nothing else", known.join(" "));
        action.error(text.span(), "this is no placeholder", hint);
        literal
    })
}

fn placeholder(text: &str) -> Option<Arg> {
    PLACEHOLDERS.iter().find(|(name, _)| *name == text).map(|(_, arg)| arg.clone())
}

/// Each stands for a whole argument, so that nothing a knock carries is ever glued to something else.
const PLACEHOLDERS: [(&str, Arg); 7] = [
    ("{ip}", Arg::Ip),
    ("{user}", Arg::User),
    ("{user_id}", Arg::UserId),
    ("{action}", Arg::Action),
    ("{action_id}", Arg::ActionId),
    ("{payload_base64}", Arg::PayloadBase64),
    ("{knock_id}", Arg::KnockId),
];
