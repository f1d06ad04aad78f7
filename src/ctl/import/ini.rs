//! The INI that siglatch v1 reads: `[section]`, `key = value`, whole-line comments.

/// A file.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// What stands in front of the first section.
    pub(super) top: Section,
    pub(super) sections: Vec<Section>,
}

/// One section.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// As in `[user:root]`: "user" and "root". Without a colon there is no name.
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Vec<Entry>,
}

/// One setting.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) line: usize,
}

impl Ini {
    /// Reads a text. Stricter than siglatch v1: what stands twice is for a person to sort out.
    ///
    /// # Errors
    ///
    /// The line, counted from 1, and what is wrong there.
    pub(super) fn parse(text: &str) -> Result<Ini, (usize, String)> {
        let mut ini = Ini::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, written) in (1..).zip(text.lines()) {
            let written = written.trim();
            if written.is_empty() || written.starts_with(['#', ';']) {
                continue;
            }
            // It would be shown on a terminal, and written into a configuration.
            if written.contains(|c: char| c.is_control() && c != '\t') {
                return Err((line, "a control character".to_owned()));
            }
            if let Some(header) = written.strip_prefix('[') {
                let section = header.strip_suffix(']').and_then(|header| Section::begin(header, line));
                let section = section.ok_or_else(|| (line, format!("{written} is no section")))?;
                if let Some(first) = ini.find(&section.kind, &section.name) {
                    return Err((line, format!("{} stands in line {} already", section.title(), first.line)));
                }
                ini.sections.push(section);
                continue;
            }
            let (key, value) = written
                .split_once('=')
                .ok_or_else(|| (line, format!("{written:?} is neither a section nor `key = value`")))?;
            let entry = Entry { key: key.trim().to_owned(), value: value.trim().to_owned(), line };
            let section = ini.sections.last_mut().unwrap_or(&mut ini.top);
            if let Some(first) = section.get(&entry.key) {
                return Err((line, format!("`{}` stands in line {} already", entry.key, first.line)));
            }
            section.entries.push(entry);
        }
        Ok(ini)
    }

    /// The sections of a kind.
    pub(super) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    /// One section.
    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind && section.name == name)
    }
}

impl Section {
    fn begin(header: &str, line: usize) -> Option<Section> {
        let (kind, name) = header.split_once(':').unwrap_or((header, ""));
        let (kind, name) = (kind.trim().to_owned(), name.trim().to_owned());
        (!kind.is_empty()).then_some(Section { kind, name, line, entries: Vec::new() })
    }

    /// A setting.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// As it is written: "[user:root]".
    pub(super) fn title(&self) -> String {
        if self.name.is_empty() {
            format!("[{}]", self.kind)
        } else {
            format!("[{}:{}]", self.kind, self.name)
        }
    }
}

impl Entry {
    /// The texts between commas.
    pub(super) fn list(&self) -> impl Iterator<Item = &str> {
        self.value.split(',').map(str::trim).filter(|text| !text.is_empty())
    }

    /// Yes or no; `None` for any other word, which siglatch v1 takes for no.
    pub(super) fn yes(&self) -> Option<bool> {
        match self.value.to_ascii_lowercase().as_str() {
            "yes" | "1" | "true" | "on" => Some(true),
            "no" | "0" | "false" | "off" => Some(false),
            _ => None,
        }
    }
}
