//! The report as a Markdown page, for `docs/results.md`, and the escaping of Markdown.

use std::fmt::Write as _;

use flatmin_figures::plain;
use flatmin_host::is_printable;

use crate::report::Report;

/// The facts, the claims with their measurements, and the summary table of every experiment.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::from("# Results\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(page, "As written by the command below (`results.md` beside its report).\n");
    page.push_str(&table(
        &["fact", "value"],
        report.facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]),
    ));
    page.push_str("\n## Claims\n");
    for claim in &report.claims {
        let (id, verdict, source) = (&claim.id, claim.verdict.name(), &claim.source);
        let [sentence, predicate, note] =
            [&claim.sentence, &claim.predicate, &claim.note].map(|text| inert(&in_words(text)));
        let _ = write!(page, "\n### Claim {id}: {verdict}\n\n{sentence}\n\n");
        let _ = write!(page, "Predicate: {predicate} ({source}).\n\n");
        if !note.is_empty() {
            let _ = write!(page, "{note}\n\n");
        }
        let rows = claim.measured.iter().map(|m| {
            let [median, minimum, maximum] = m.display();
            let (quantity, interval) = (in_words(&m.quantity), m.display_interval());
            vec![quantity, median, interval, minimum, maximum, m.runs.to_string()]
        });
        let headers = ["measured", "median", "95 % interval", "minimum", "maximum", "runs"];
        page.push_str(&table(&headers, rows));
    }
    for section in &report.sections {
        let _ = write!(page, "\n## {} (`{}`)\n\n", section.title, section.id);
        let headers: Vec<&str> = section.headers.iter().map(String::as_str).collect();
        page.push_str(&table(&headers, section.rows.iter().cloned()));
    }
    page
}

fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cell = |cell: &String| inert(cell).replace('|', "\\|");
    let rows = rows.map(|row| row.iter().map(cell).collect::<Vec<String>>());
    let rule = vec!["---"; headers.len()];
    line(headers) + &line(&rule) + &rows.map(|row| line(&row)).collect::<String>()
}

/// A line of a table, whose cells are taken as they are.
pub(crate) fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Text on one line without elements, links, code or entities, whoever wrote it: viewers of
/// Markdown interpret HTML.
fn inert(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        match character {
            // A `<` before any other character stands for itself.
            '<' if next.is_alphabetic() || "/!?".contains(next) => safe.push_str("&lt;"),
            '&' if next.is_alphanumeric() || next == '#' => safe.push_str("&amp;"),
            '[' => safe.push_str("&#91;"),
            '`' => safe.push_str("&#96;"),
            '\n' => safe.push(' '),
            character if is_printable(character) => safe.push(character),
            _ => safe.push('\u{fffd}'),
        }
    }
    safe
}

/// Text with subscripts as in `x_max`, in which marks of Markdown are escaped.
fn in_words(text: &str) -> String {
    escaped(&plain(text))
}

/// Text in which `*`, and `_` outside of words, are escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    let mut before = ' ';
    for character in text.chars() {
        if character == '*' || character == '_' && !before.is_alphanumeric() {
            escaped.push('\\');
        }
        escaped.push(character);
        before = character;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{escaped, in_words, inert, table};

    #[test]
    fn a_bar_in_a_cell_does_not_end_it() {
        let text = table(&["a", "b"], [vec!["|x|".to_owned(), "y".to_owned()]].into_iter());
        assert_eq!(text, "| a | b |\n| --- | --- |\n| \\|x\\| | y |\n");
    }

    #[test]
    fn what_a_viewer_would_act_on_is_shown() {
        let text =
            "<script>x</script> <img src=x> <!-- &lt; &#60; [a](javascript:b) `<b>`\u{1b}[2J\n# c";
        let expected = "&lt;script>x&lt;/script> &lt;img src=x> &lt;!-- &amp;lt; &amp;#60; \
                        &#91;a](javascript:b) &#96;&lt;b>&#96;\u{fffd}&#91;2J # c";
        assert_eq!(inert(text), expected);
        let formula = "η < 2/λ_max & tr G ≤ (x)_i, 0.5 < y, “—” ‖g‖²";
        assert_eq!(inert(formula), formula);
    }

    #[test]
    fn marks_mean_themselves() {
        assert_eq!(escaped("β* has (Mv)_i and λ_max"), "β\\* has (Mv)\\_i and λ_max");
        assert_eq!(in_words("λ_{max} ≤ 2/η, ‖W‖_{*}"), "λ_max ≤ 2/η, ‖W‖\\_\\*");
    }
}
