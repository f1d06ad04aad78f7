//! A page of Markdown, taken apart as far as the tests need it.

/// A page.
pub(crate) struct Page {
    /// Without the blocks.
    pub(crate) prose: String,
    /// What stands between fences.
    pub(crate) blocks: Vec<Block>,
}

/// A block between fences.
pub(crate) struct Block {
    /// Of the line before it, `<!-- this -->`.
    pub(crate) marker: Option<String>,
    /// Behind the fence: `sh`, `toml`.
    pub(crate) language: String,
    /// Its lines.
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn parse(text: &str) -> Page {
        let mut page = Page { prose: String::new(), blocks: Vec::new() };
        let mut marker = None;
        let (mut inside, mut hidden) = (false, false);
        for line in text.lines() {
            // What nobody sees.
            let hides = !inside && line.starts_with("<!--") && !line.ends_with("-->");
            let shows = hidden && line.ends_with("-->");
            if hides || hidden {
                hidden = !shows;
                continue;
            }
            match line.strip_prefix("```") {
                Some(_) if inside => inside = false,
                Some(language) => {
                    inside = true;
                    let language = language.to_owned();
                    page.blocks.push(Block { marker: marker.take(), language, text: String::new() });
                }
                None if inside => {
                    let block = page.blocks.last_mut().unwrap();
                    block.text += line;
                    block.text.push('\n');
                }
                None => {
                    marker = line
                        .strip_prefix("<!-- ")
                        .and_then(|rest| rest.strip_suffix(" -->"))
                        .map(str::to_owned);
                    page.prose += line;
                    page.prose.push('\n');
                }
            }
        }
        assert!(!inside, "a block that does not end");
        page
    }

    /// What stands between backticks in the prose.
    pub(crate) fn code(&self) -> Vec<String> {
        let paragraphs = self.prose.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
        paragraphs
            .flat_map(|paragraph| {
                paragraph.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Where its links lead.
    pub(crate) fn links(&self) -> Vec<String> {
        let text: String = self.prose.split('`').step_by(2).collect::<Vec<_>>().join("code");
        text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
    }

    /// The anchors of its headings.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let letters = line.trim_start_matches('#').trim().to_lowercase();
                let letters = letters.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                letters.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }

    /// The cells of its tables, row by row.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let lines = self.prose.lines().filter(|line| line.starts_with("| "));
        lines
            .map(|line| {
                line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
            })
            .collect()
    }
}
