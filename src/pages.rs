//! Manual pages and completions of the three programs, made of the definitions that they read their command lines by.
//!
//! In: a folder. Out: `man/`, `bash/`, `zsh/` and `fish/` in it, the same bytes each time. Never: a date, a path of the machine.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, Parser};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::{self, Exit, Failure};
use crate::{client, ctl, keeper};

/// Writes the manual pages and shell completions of siglatch, siglatchctl and siglatchd
#[derive(Debug, Parser)]
#[command(name = "siglatch-pages", version)]
struct Args {
    /// The folder to write them to; made if it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// siglatch-pages.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match exit::parse::<Args>(args) {
        Ok(Args { folder }) => exit::end(write(&folder).map_err(|error| {
            Failure::new(Exit::of_io(&error), format!("cannot write below {}: {error}", folder.display()))
        })),
        Err(code) => code,
    }
}

fn write(folder: &Path) -> io::Result<()> {
    let man = folder.join("man");
    for place in ["man", "bash", "zsh", "fish"] {
        fs::create_dir_all(folder.join(place))?;
    }
    for (command, section) in [(client::command(), "1"), (ctl::command(), "8"), (keeper::command(), "8")] {
        let name = command.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, format!("bash/{name}")),
            (Shell::Zsh, format!("zsh/_{name}")),
            (Shell::Fish, format!("fish/{name}.fish")),
        ] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), &name, &mut text);
            fs::write(folder.join(file), text)?;
        }
        let mut command = command.disable_help_subcommand(true);
        command.build();
        pages(&man, &command, &name, section)?;
    }
    fs::write(man.join("siglatchd.toml.5"), configuration())
}

/// A page for a command and, each by itself, those below it.
fn pages(folder: &Path, command: &Command, name: &str, section: &str) -> io::Result<()> {
    fs::write(folder.join(format!("{name}.{section}")), page(command, section)?)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(folder, below, &format!("{name}-{}", below.get_name()), section)?;
    }
    Ok(())
}

fn page(command: &Command, section: &str) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).section(section).source(SOURCE).manual("siglatch");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut out)?;
    }
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
        write!(out, ".SH MORE\n{}", verbatim(&more.to_string()))?;
    }
    out.write_all(SEE_ALSO.as_bytes())?;
    Ok(out)
}

/// siglatchd.toml(5): the documented configuration as it stands.
fn configuration() -> String {
    format!(
        ".TH siglatchd.toml 5 \"\" \"{SOURCE}\" siglatch\n.SH NAME\nsiglatchd.toml \\- configuration of siglatchd\n\
         .SH DESCRIPTION\n{}{SEE_ALSO}",
        verbatim(include_str!("../config/siglatchd.toml"))
    )
}

/// Lines that stay as they are: no roff request, no hyphen that is typeset.
fn verbatim(text: &str) -> String {
    let line = |line: &str| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-"));
    format!(".nf\n{}.fi\n", text.lines().map(line).collect::<String>())
}

const SOURCE: &str = concat!("siglatch ", env!("CARGO_PKG_VERSION"));

const SEE_ALSO: &str = ".SH \"SEE ALSO\"\n\
    \\fBsiglatch\\fR(1), \\fBsiglatchd.toml\\fR(5), \\fBsiglatchctl\\fR(8), \\fBsiglatchd\\fR(8)\n";
