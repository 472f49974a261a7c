//! The report: one HTML page that holds the claims, the figures and how they were made.
//!
//! The page is self-contained: no script, no external style, font or image, and a content security
//! policy that forbids them. Every text is escaped, with `_{…}` set as a subscript as in the
//! figures; only [`Section::svg`] is taken as markup.

mod page;

use flatmin_experiments::{Claim, Measured, Verdict};
use flatmin_figures::{escape, plain};

use page::{fragment, paragraphs, relative_link, table, typeset, unless_empty};

/// Everything the page shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// A few sentences on what this is about; a blank line starts a new paragraph.
    pub summary: String,
    /// How the run was set up, as name and value: profile, seeds, version, …
    pub facts: Vec<(String, String)>,
    /// The judged claims, in the order shown.
    pub claims: Vec<Claim>,
    /// The figures, in the order shown.
    pub sections: Vec<Section>,
}

/// One figure with its text and a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Short identifier, unique in the report.
    pub id: String,
    /// Heading.
    pub title: String,
    /// The message of the figure; a blank line starts a new paragraph.
    pub shows: String,
    /// How it was run; a blank line starts a new paragraph.
    pub how: String,
    /// The figure as SVG markup, trusted and placed as it is; empty for none.
    pub svg: String,
    /// Path of the full table, relative to the page; empty for none.
    pub table_file: String,
    /// Column headers of the summary table.
    pub headers: Vec<String>,
    /// Rows of the summary table; empty for no table.
    pub rows: Vec<Vec<String>>,
    /// Path of the figure's own file, relative to the page; empty for none.
    pub figure_file: String,
}

const STYLE: &str = include_str!("style.css");

/// The page loads, runs and sends nothing; only its own styles apply.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const FOOTER: &str = "<footer>\n<p>Made by <code>cargo xtask reproduce</code>, which writes this \
                      page, the figures and the tables from the stored results of the runs; the \
                      same command makes them again.</p>\n</footer>\n";

impl Report {
    /// The page as a complete HTML document.
    pub fn to_html(&self) -> String {
        let (title, heading) = (escape(&plain(&self.title)), typeset(&self.title));
        let (summary, contents) = (paragraphs(&self.summary), self.contents());
        let (claims, facts) = (self.claims(), self.facts());
        let sections: String = self.sections.iter().map(Section::to_html).collect();
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>{heading}</h1>
{summary}</header>
{contents}<main>
{claims}{sections}{facts}</main>
{FOOTER}</body>
</html>
"#
        )
    }

    fn contents(&self) -> String {
        let item =
            |anchor: &str, title: &str| format!("<li><a href=\"#{anchor}\">{title}</a></li>\n");
        let figure = |section: &Section| {
            item(&format!("figure-{}", fragment(&section.id)), &typeset(&section.title))
        };
        let mut items = item("claims", "Claims");
        items.extend(self.sections.iter().map(figure));
        if !self.facts.is_empty() {
            items += &item("setup", "How this was run");
        }
        format!(
            "<nav aria-labelledby=\"contents\">\n<h2 id=\"contents\">Contents</h2>\n<ol>\n{items}</ol>\n</nav>\n"
        )
    }

    fn claims(&self) -> String {
        let (headline, class) = (escape(&self.headline()), self.worst().name());
        let rows: String = self.claims.iter().map(claim_row).collect();
        let articles: String = self.claims.iter().map(claim_article).collect();
        let tables = unless_empty(&rows, |rows| {
            format!(
                "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"claims\">\n\
                 <table class=\"verdicts\">\n<thead><tr><th scope=\"col\">Verdict</th>\
                 <th scope=\"col\">Claim</th><th scope=\"col\">In words</th></tr></thead>\n\
                 <tbody>\n{rows}</tbody>\n</table>\n</div>\n<h3>What was measured</h3>\n{articles}"
            )
        });
        format!(
            "<section>\n<h2 id=\"claims\">Claims</h2>\n\
             <p class=\"headline {class}\">{headline}</p>\n{tables}</section>\n"
        )
    }

    /// The count in words, with the names of the claims that do not hold.
    fn headline(&self) -> String {
        let named = |verdict: Verdict| -> Vec<&str> {
            let claims = self.claims.iter().filter(|claim| claim.verdict == verdict);
            claims.map(|claim| claim.id.as_str()).collect()
        };
        let (total, holds) = (self.claims.len(), named(Verdict::Holds).len());
        let mut text = match total {
            0 => return "No claims were judged.".to_owned(),
            1 => format!("{holds} of 1 claim holds."),
            _ => format!("{holds} of {total} claims hold."),
        };
        for (verdict, word) in [(Verdict::Fails, "Failing"), (Verdict::Undecided, "Undecided")] {
            let ids = named(verdict);
            if !ids.is_empty() {
                text.extend([" ", word, ": ", &ids.join(", "), "."]);
            }
        }
        text
    }

    fn worst(&self) -> Verdict {
        let any = |verdict| self.claims.iter().any(|claim| claim.verdict == verdict);
        match (any(Verdict::Fails), any(Verdict::Undecided), any(Verdict::Holds)) {
            (true, ..) => Verdict::Fails,
            (false, false, true) => Verdict::Holds,
            _ => Verdict::Undecided,
        }
    }

    fn facts(&self) -> String {
        let row = |(name, value): &(String, String)| {
            let (name, value) = (typeset(name), typeset(value));
            format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n")
        };
        unless_empty(&self.facts.iter().map(row).collect::<String>(), |rows| {
            format!(
                "<section>\n<h2 id=\"setup\">How this was run</h2>\n\
                 <table class=\"facts\">\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n"
            )
        })
    }
}

/// The verdict of a claim and the claim in words.
fn claim_row(claim: &Claim) -> String {
    let (class, badge) = (claim.verdict.name(), badge(claim.verdict));
    let (anchor, id) = (fragment(&claim.id), escape(&claim.id));
    let sentence = typeset(&claim.sentence);
    format!(
        "<tr class=\"{class}\"><td>{badge}</td>\
         <th scope=\"row\"><a href=\"#claim-{anchor}\">{id}</a></th><td>{sentence}</td></tr>\n"
    )
}

/// The predicate, the source, the note and the measurements of a claim.
fn claim_article(claim: &Claim) -> String {
    let (class, badge) = (claim.verdict.name(), badge(claim.verdict));
    let (anchor, id) = (fragment(&claim.id), escape(&claim.id));
    let (sentence, predicate) = (typeset(&claim.sentence), typeset(&claim.predicate));
    let source = unless_empty(&claim.source, |source| {
        format!("<p class=\"source\">Source: {}</p>\n", escape(source))
    });
    let note = unless_empty(&claim.note, |note| {
        format!("<div class=\"note\">\n{}</div>\n", paragraphs(note))
    });
    let headers = ["Quantity", "Median", "Minimum", "Maximum", "Runs"].map(str::to_owned);
    let rows: Vec<Vec<String>> = claim.measured.iter().map(measured_cells).collect();
    let measured = table(&format!("measured for {}", claim.id), &headers, &rows);
    format!(
        "<article class=\"claim {class}\" id=\"claim-{anchor}\">\n<h4>{badge} {id}: {sentence}</h4>\n\
         <p><b>Tested:</b> {predicate}</p>\n{source}{note}{measured}</article>\n"
    )
}

/// Quantity, median, minimum, maximum and number of runs.
fn measured_cells(measured: &Measured) -> Vec<String> {
    let [median, minimum, maximum] = measured.display();
    vec![measured.quantity.clone(), median, minimum, maximum, measured.runs.to_string()]
}

impl Section {
    fn to_html(&self) -> String {
        let (id, title) = (fragment(&self.id), typeset(&self.title));
        let shows = paragraphs(&self.shows);
        let figure = unless_empty(&self.svg, |svg| {
            format!(
                "<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
                 aria-labelledby=\"figure-{id}\">\n{svg}</div>\n</figure>\n"
            )
        });
        let how =
            unless_empty(&self.how, |how| format!("<h3>How it was run</h3>\n{}", paragraphs(how)));
        let link = |name: &str, file: &String| {
            let (link, text) = (relative_link(file), escape(file));
            (!file.is_empty()).then(|| format!("{name}: <a href=\"{link}\">{text}</a>"))
        };
        let links = [link("Data", &self.table_file), link("Figure", &self.figure_file)];
        let links = links.into_iter().flatten().collect::<Vec<String>>().join(" · ");
        let links = unless_empty(&links, |links| format!("<p class=\"files\">{links}</p>\n"));
        let table = table(&format!("summary of {}", self.title), &self.headers, &self.rows);
        let table = unless_empty(&table, |table| {
            format!("<details>\n<summary>Summary table</summary>\n{table}</details>\n")
        });
        format!(
            "<section class=\"experiment\">\n<h2 id=\"figure-{id}\">{title}</h2>\n\
             {shows}{figure}{how}{links}{table}</section>\n"
        )
    }
}

/// The verdict as symbol and word.
fn badge(verdict: Verdict) -> String {
    let word = verdict.name();
    let symbol = match verdict {
        Verdict::Holds => "✓",
        Verdict::Fails => "✗",
        Verdict::Undecided => "?",
    };
    format!("<span class=\"badge {word}\"><span aria-hidden=\"true\">{symbol}</span> {word}</span>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim of which every text is `text`.
    fn claim(id: &str, verdict: Verdict, text: &str) -> Claim {
        Claim {
            id: id.to_owned(),
            sentence: text.to_owned(),
            source: text.to_owned(),
            predicate: text.to_owned(),
            measured: vec![Measured::new(text, &[1.0])],
            runs: 1,
            verdict,
            note: text.to_owned(),
        }
    }

    #[test]
    fn the_headline_counts_and_names_what_does_not_hold() {
        use Verdict::{Fails, Holds, Undecided};
        let check = |verdicts: &[(&str, Verdict)], expected: &str| {
            let claims = verdicts.iter().map(|(id, verdict)| claim(id, *verdict, "")).collect();
            assert_eq!(Report { claims, ..Report::default() }.headline(), expected);
        };
        check(&[], "No claims were judged.");
        check(&[("a", Holds), ("b", Holds)], "2 of 2 claims hold.");
        check(
            &[("a", Fails), ("b", Holds), ("c", Undecided), ("d", Fails)],
            "1 of 4 claims hold. Failing: a, d. Undecided: c.",
        );
    }

    #[test]
    fn every_text_is_escaped() {
        let bad = "<script>\"'&".to_owned();
        let section = Section {
            id: bad.clone(),
            title: bad.clone(),
            shows: bad.clone(),
            how: bad.clone(),
            svg: String::new(),
            table_file: bad.clone(),
            headers: vec![bad.clone()],
            rows: vec![vec![bad.clone(), bad.clone()]],
            figure_file: bad.clone(),
        };
        let report = Report {
            title: bad.clone(),
            summary: bad.clone(),
            facts: vec![(bad.clone(), bad.clone())],
            claims: vec![claim(&bad, Verdict::Fails, &bad)],
            sections: vec![section],
        };
        let html = report.to_html();
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("\"'&") && !html.contains("'&\""), "{html}");
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let section = Section {
            table_file: "tables/a b.csv".to_owned(),
            figure_file: "javascript:alert(1)".to_owned(),
            ..Section::default()
        };
        let html = Report { sections: vec![section], ..Report::default() }.to_html();
        assert!(html.contains(POLICY));
        assert!(html.contains("href=\"./tables/a%20b.csv\""));
        assert!(html.contains("href=\"./javascript%3Aalert%281%29\""));
        for forbidden in ["<link", "src=", "@import", "url("] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_failing_claim_colours_the_headline() {
        let claims = vec![claim("a", Verdict::Holds, ""), claim("b", Verdict::Fails, "")];
        let html = Report { claims, ..Report::default() }.to_html();
        assert!(html.contains("class=\"headline fails\""));
        assert!(html.contains("<article class=\"claim fails\" id=\"claim-b\">"));
    }
}
