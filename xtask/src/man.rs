//! Man pages: what clap knows about a command line, and what the documents say about a run.

use anyhow::Context;
use clap::Command;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use crate::{
    files::File,
    markdown::{inline, rows},
};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const CONTROLLER: &str = include_str!("../../docs/controller.md");
const MANUAL: &str = "Volume populators";

/// What a page says beyond the command line.
#[derive(Debug)]
pub(crate) struct About {
    /// Title of a section, and its entries: what, and its meaning.
    pub(crate) sections: Vec<(&'static str, Vec<(String, String)>)>,
    /// Other pages, with their sections; then documents.
    pub(crate) see_also: &'static str,
}

/// Pages of the command and of its subcommands, as `man1/NAME.1`.
///
/// # Errors
/// A page is no text.
pub(crate) fn pages(command: &Command, about: &About) -> anyhow::Result<Vec<File>> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![page(&command, Some(about))?];
    for subcommand in command.get_subcommands() {
        pages.push(page(subcommand, None)?);
    }
    Ok(pages)
}

fn page(command: &Command, about: Option<&About>) -> anyhow::Result<File> {
    // Without a date, which another build would change; an empty one would let the next field take its place.
    let man = Man::new(command.clone()).date(" ").manual(MANUAL);
    let mut bytes = Vec::new();
    man.render_title(&mut bytes)?;
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    man.render_options_section(&mut bytes)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut bytes)?;
    }
    if let Some(about) = about {
        let mut roff = Roff::new();
        if let Some(example) = command.get_after_help() {
            examples(&mut roff, &example.to_string());
        }
        for (title, entries) in &about.sections {
            roff.control("SH", [*title]);
            for (what, meaning) in entries {
                roff.control("TP", []);
                roff.text(inline(what));
                roff.text(inline(meaning));
            }
        }
        roff.control("SH", ["SEE ALSO"]);
        roff.text(references(about.see_also));
        roff.to_writer(&mut bytes)?;
    }
    let text = String::from_utf8(bytes).context("man page")?;
    Ok(File {
        path: format!("man/man1/{}", man.get_filename()),
        text,
    })
}

/// A paragraph's lines are joined; those that are indented are commands, which stay as they are.
fn examples(roff: &mut Roff, text: &str) {
    roff.control("SH", ["EXAMPLES"]);
    let mut is_command = false;
    for line in text.lines() {
        if line.starts_with(' ') != is_command {
            is_command = !is_command;
            roff.control(if is_command { "nf" } else { "fi" }, []);
        }
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    if is_command {
        roff.control("fi", []);
    }
}

/// `name(1)` with its name in bold.
fn references(text: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    for (index, reference) in text.split(", ").enumerate() {
        if index > 0 {
            found.push(roman(", "));
        }
        match reference.split_once('(') {
            Some((name, section)) => {
                found.extend([bold(name), roman(format!("({section}"))]);
            }
            None => found.push(roman(reference)),
        }
    }
    found
}

/// What the page of a mover says; `source` is its word in the table of keys, `variables` are those of its own.
///
/// # Errors
/// A table of docs/operations.md has another form.
pub(crate) fn of_mover(
    source: &str,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
    see_also: &'static str,
) -> anyhow::Result<About> {
    let mut environment = pairs(rows(OPERATIONS, "Environment")?.into_iter(), 0, 1)
        .context("docs/operations.md: Environment")?;
    environment.extend(owned(variables));
    let keys = rows(OPERATIONS, "Credentials")?.into_iter().filter(|row| {
        row.get(1)
            .is_some_and(|whose| whose == "both" || whose == source)
    });
    let codes = rows(OPERATIONS, "Exit codes")?.into_iter().map(|row| {
        let [code, word, meaning, _, action] = <[String; 5]>::try_from(row).ok()?;
        let action = if action.is_empty() {
            action
        } else {
            format!(" What to do: {}", sentence(&action))
        };
        Some((format!("{code} {word}"), sentence(&meaning) + &action))
    });
    let codes: Option<Vec<_>> = codes.collect();
    Ok(About {
        sections: vec![
            (
                "SECRET KEYS",
                pairs(keys, 0, 2).context("docs/operations.md: Credentials")?,
            ),
            ("ENVIRONMENT", environment),
            ("FILES", owned(files)),
            (
                "EXIT STATUS",
                codes.context("docs/operations.md: Exit codes")?,
            ),
        ],
        see_also,
    })
}

/// What the controller's page says.
///
/// # Errors
/// A table of docs/controller.md has another form.
pub(crate) fn of_controller(
    files: &[(&str, &str)],
    codes: &[(&str, &str)],
    see_also: &'static str,
) -> anyhow::Result<About> {
    let variables = rows(CONTROLLER, "Settings")?.into_iter().map(|row| {
        let [names, default, meaning] = <[String; 3]>::try_from(row).ok()?;
        let default = if default.is_empty() {
            default
        } else {
            format!(" Default: {default}.")
        };
        Some((names, sentence(&meaning) + &default))
    });
    let variables: Option<Vec<_>> = variables.collect();
    Ok(About {
        sections: vec![
            (
                "ENVIRONMENT",
                variables.context("docs/controller.md: Settings")?,
            ),
            ("FILES", owned(files)),
            ("EXIT STATUS", owned(codes)),
        ],
        see_also,
    })
}

/// Two columns of a table.
fn pairs(
    rows: impl Iterator<Item = Vec<String>>,
    what: usize,
    meaning: usize,
) -> Option<Vec<(String, String)>> {
    rows.map(|row| Some((row.get(what)?.clone(), sentence(row.get(meaning)?))))
        .collect()
}

/// A cell has no full stop at its end.
fn sentence(cell: &str) -> String {
    format!("{}.", cell.trim_end_matches('.'))
}

fn owned(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    let entry = |(what, meaning): &(&str, &str)| ((*what).to_owned(), (*meaning).to_owned());
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_command_line_and_what_the_documents_say() {
        let command = Command::new("x")
            .version("1.0")
            .about("Copies")
            .after_help("Example:\n  x --y \\\n    z\n\nMore")
            .arg(clap::Arg::new("y").long("y").help("Why"))
            .subcommand(Command::new("sub").about("Prints"));
        let about = of_mover(
            "oVirt",
            &[("`V`", "A variable.")],
            &[("`/f`", "A file.")],
            "y(1), docs/z.md",
        )
        .unwrap();
        let pages = pages(&command, &about).unwrap();
        let paths: Vec<_> = pages.iter().map(|page| page.path.as_str()).collect();
        assert_eq!(paths, ["man/man1/x.1", "man/man1/x-sub.1"]);
        for text in [
            ".TH x 1 \" \" \"x 1.0\" \"Volume populators\"\n",
            "\\fB\\-\\-y\\fR",
            ".nf\n  x \\-\\-y \\\\\n    z\n.fi\n.PP\nMore\n",
            ".SH \"SECRET KEYS\"\n",
            "\\fBpassword\\fR",
            ".SH ENVIRONMENT\n",
            "\\fBSSL_CERT_FILE\\fR",
            ".TP\n\\fBV\\fR\nA variable.\n",
            ".SH FILES\n.TP\n\\fB/f\\fR\nA file.\n",
            "20 \\fBtarget\\-too\\-small\\fR\n",
            ".SH \"SEE ALSO\"\n\\fBy\\fR(1), docs/z.md\n",
        ] {
            assert!(
                pages[0].text.contains(text),
                "{text:?} is not in:\n{}",
                pages[0].text
            );
        }
        // The keys of the other source are on the other page.
        assert!(!pages[0].text.contains("applicationCredentialID"));
    }
}
