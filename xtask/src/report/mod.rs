//! The report: one HTML page that holds the claims, the figures and how they were made.
//!
//! The page is self-contained: no script, no external style, font or image, and a content security
//! policy that forbids them. Every text is escaped, with `_{…}` set as a subscript as in the
//! figures; only [`Section::svg`] is taken as markup.

mod math;
mod page;

use flatmin_experiments::{Claim, Measured, REFUTED, Refuted, Verdict};
use flatmin_figures::{escape, plain};

use page::{fragment, paragraphs, relative_link, table, typeset, unless_empty};

/// Everything the page shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// The answer in a few sentences; a blank line starts a new paragraph.
    pub summary: String,
    /// The section whose figure stands below the answer, by its id; empty for none.
    pub lead: String,
    /// How the run was set up, as name and value: profile, seeds, version, …
    pub facts: Vec<(String, String)>,
    /// The judged claims, in the order shown. Each stands beside the figure of its experiment.
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

/// Rows of the measurements of a claim that are shown; all of them are folded below.
const SHOWN_ROWS: usize = 3;

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
        let (lead, claims, facts) = (self.lead(), self.claims(), self.facts());
        let sections: String = self.sections.iter().map(|section| self.section(section)).collect();
        let (loose, refuted) = (self.loose_claims(), self.refuted());
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
{contents}<div class="page">
<header id="answer">
<h1>{heading}</h1>
<div class="answer">
{summary}</div>
{lead}</header>
<main>
{claims}{loose}{sections}{refuted}{facts}</main>
{FOOTER}</div>
</body>
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
        let mut items = item("answer", "The answer") + &item("claims", "Claims");
        items.extend(self.sections.iter().map(figure));
        items += &item("refuted", "What failed or was refuted");
        if !self.facts.is_empty() {
            items += &item("setup", "How this was run");
        }
        format!(
            "<nav aria-labelledby=\"contents\">\n<h2 id=\"contents\">Contents</h2>\n<ol>\n{items}</ol>\n</nav>\n"
        )
    }

    /// The figure below the answer.
    fn lead(&self) -> String {
        let lead = self.sections.iter().find(|section| section.id == self.lead);
        lead.map_or_else(String::new, |section| section.figure("lead"))
    }

    /// The count of verdicts, and every claim in one line.
    fn claims(&self) -> String {
        let (headline, class) = (escape(&self.headline()), self.worst().name());
        let items: String = self.claims.iter().map(claim_item).collect();
        let list = unless_empty(&items, |items| format!("<ol class=\"verdicts\">\n{items}</ol>\n"));
        format!(
            "<section>\n<h2 id=\"claims\">Claims</h2>\n\
             <p class=\"headline {class}\">{headline}</p>\n{list}</section>\n"
        )
    }

    /// A section with the claims that rest on it beside its figure.
    fn section(&self, section: &Section) -> String {
        let claims = self.claims.iter().filter(|claim| claim.experiment == section.id);
        let cards: String = claims.map(claim_card).collect();
        section.to_html(&cards, section.id == self.lead)
    }

    /// The claims on experiments that have no section.
    fn loose_claims(&self) -> String {
        let is_loose =
            |claim: &&Claim| !self.sections.iter().any(|section| section.id == claim.experiment);
        let cards: String = self.claims.iter().filter(is_loose).map(claim_card).collect();
        unless_empty(&cards, |cards| format!("<section class=\"loose\">\n{cards}</section>\n"))
    }

    /// What does not hold in this run, and what did not hold on the way to it.
    fn refuted(&self) -> String {
        let failing = self.claims.iter().filter(|claim| claim.verdict != Verdict::Holds);
        let items: String = failing.map(claim_item).collect();
        let now = if items.is_empty() {
            "<p>No claim failed or was left undecided in this run.</p>\n".to_owned()
        } else {
            format!("<ol class=\"verdicts\">\n{items}</ol>\n")
        };
        let is_shown = |refuted: &&Refuted| {
            self.sections.iter().any(|section| section.id == refuted.experiment)
        };
        let entries: String = REFUTED.iter().filter(is_shown).map(refuted_entry).collect();
        let before = unless_empty(&entries, |entries| {
            format!("<h3>Refuted on the way</h3>\n<dl class=\"refuted\">\n{entries}</dl>\n")
        });
        format!(
            "<section>\n<h2 id=\"refuted\">What failed or was refuted</h2>\n{now}{before}</section>\n"
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

/// The verdict of a claim and the claim in words, with a link to its card.
fn claim_item(claim: &Claim) -> String {
    let (class, badge) = (claim.verdict.name(), badge(claim.verdict));
    let (anchor, id) = (fragment(&claim.id), escape(&claim.id));
    let sentence = typeset(&claim.sentence);
    format!("<li class=\"{class}\">{badge} <a href=\"#claim-{anchor}\">{id}</a> {sentence}</li>\n")
}

/// The verdict, the sentence, the note and the measurements of a claim; its predicate and its
/// source are folded.
fn claim_card(claim: &Claim) -> String {
    let (class, badge) = (claim.verdict.name(), badge(claim.verdict));
    let (anchor, id) = (fragment(&claim.id), escape(&claim.id));
    let (sentence, predicate) = (typeset(&claim.sentence), typeset(&claim.predicate));
    let source = unless_empty(&claim.source, |source| {
        format!("<p class=\"source\">Source: {}</p>\n", escape(source))
    });
    let note = unless_empty(&claim.note, |note| {
        format!("<div class=\"note\">\n{}</div>\n", paragraphs(note))
    });
    let first = claim.measured.iter().take(SHOWN_ROWS).map(short_cells).collect::<Vec<_>>();
    let has_intervals = claim.measured.iter().any(|measured| measured.interval.is_some());
    let median = if has_intervals { "Median [95 % interval]" } else { "Median" };
    let short = ["Quantity", median, "Range"].map(str::to_owned);
    let shown = table(&format!("measured for {}", claim.id), &short, &first);
    let rows: Vec<Vec<String>> = claim.measured.iter().map(measured_cells).collect();
    let headers = MEASURED_HEADERS.map(str::to_owned);
    let all = table(&format!("all measured for {}", claim.id), &headers, &rows);
    format!(
        "<article class=\"claim {class}\" id=\"claim-{anchor}\">\n<p class=\"verdict\">{badge} Claim {id}</p>\n\
         <h4>{sentence}</h4>\n{note}{shown}<details>\n<summary>How it was tested, all values</summary>\n\
         <p><b>Tested:</b> {predicate}</p>\n{source}{all}</details>\n</article>\n"
    )
}

/// An expectation and what was found instead.
fn refuted_entry(refuted: &Refuted) -> String {
    let (anchor, id) = (fragment(refuted.experiment), escape(refuted.experiment));
    let [expected, found] = [refuted.expected, refuted.found].map(typeset);
    format!("<dt>{expected}</dt>\n<dd>{found} <a href=\"#figure-{anchor}\">{id}</a></dd>\n")
}

/// Quantity, median with its interval, and the range of the runs.
fn short_cells(measured: &Measured) -> Vec<String> {
    let [mut median, minimum, maximum] = measured.display();
    // In a narrow card a line breaks before a bracket, and not within it.
    if measured.interval.is_some() {
        let interval = measured.display_interval().replace(' ', "\u{a0}");
        median = format!("{median} {interval}");
    }
    let range =
        if minimum == maximum { String::new() } else { format!("[{minimum},\u{a0}{maximum}]") };
    vec![measured.quantity.clone(), median, range]
}

/// The headers of [`measured_cells`].
const MEASURED_HEADERS: [&str; 6] =
    ["Quantity", "Median", "95 % interval", "Minimum", "Maximum", "Runs"];

/// Quantity, median with its interval, minimum, maximum and number of runs.
fn measured_cells(measured: &Measured) -> Vec<String> {
    let [median, minimum, maximum] = measured.display();
    let (quantity, interval) = (measured.quantity.clone(), measured.display_interval());
    vec![quantity, median, interval, minimum, maximum, measured.runs.to_string()]
}

impl Section {
    fn figure(&self, class: &str) -> String {
        let id = fragment(&self.id);
        unless_empty(&self.svg, |svg| {
            format!(
                "<figure class=\"{class}\">\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
                 aria-labelledby=\"figure-{id}\">\n{svg}</div>\n</figure>\n"
            )
        })
    }

    /// The section with these cards of claims beside the figure, which stands elsewhere if it leads
    /// the page.
    fn to_html(&self, cards: &str, leads: bool) -> String {
        let (id, title) = (fragment(&self.id), typeset(&self.title));
        let shows = paragraphs(&self.shows);
        let figure = if leads {
            "<p class=\"files\">Its figure is <a href=\"#answer\">at the top</a>.</p>\n".to_owned()
        } else {
            self.figure("beside")
        };
        let how = unless_empty(&self.how, paragraphs);
        let link = |name: &str, file: &String| {
            let (link, text) = (relative_link(file), escape(file));
            (!file.is_empty()).then(|| format!("{name}: <a href=\"{link}\">{text}</a>"))
        };
        let links = [link("Data", &self.table_file), link("Figure", &self.figure_file)];
        let links = links.into_iter().flatten().collect::<Vec<String>>().join(" · ");
        let links = unless_empty(&links, |links| format!("<p class=\"files\">{links}</p>\n"));
        let table = table(&format!("summary of {}", self.title), &self.headers, &self.rows);
        let folded = unless_empty(&format!("{how}{table}"), |content| {
            format!(
                "<details>\n<summary>How it was run, and its numbers</summary>\n{content}</details>\n"
            )
        });
        let class = if cards.is_empty() { "alone" } else { "pair" };
        format!(
            "<section class=\"experiment\">\n<h2 id=\"figure-{id}\">{title}</h2>\n\
             <div class=\"{class}\">\n<div class=\"text\">\n{shows}{cards}</div>\n{figure}</div>\n\
             {folded}{links}</section>\n"
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
            experiment: text.to_owned(),
            sentence: text.to_owned(),
            source: text.to_owned(),
            predicate: text.to_owned(),
            measured: vec![Measured::new(text, &[1.0])],
            margin: None,
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
            lead: bad.clone(),
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
    fn a_claim_stands_beside_the_figure_of_its_experiment_and_the_lead_is_shown_once() {
        let section = |id: &str| Section {
            id: id.to_owned(),
            svg: format!("<svg id=\"{id}\"></svg>"),
            ..Section::default()
        };
        let mut one = claim("1", Verdict::Holds, "");
        one.experiment = "first".to_owned();
        let claims = vec![one, claim("2", Verdict::Holds, "nowhere")];
        let sections = vec![section("first"), section("second")];
        let lead = "second".to_owned();
        let html = Report { lead, claims, sections, ..Report::default() }.to_html();
        assert_eq!(html.matches("<svg").count(), 2);
        let place = |part: &str| html.find(part).unwrap_or_else(|| panic!("{part} in {html}"));
        assert!(place("<svg id=\"second\"") < place("id=\"claims\""));
        assert!(place("id=\"claims\"") < place("id=\"claim-2\""));
        assert!(place("id=\"figure-first\"") < place("id=\"claim-1\""));
        assert!(place("id=\"claim-1\"") < place("<svg id=\"first\""));
        assert!(place("<svg id=\"first\"") < place("id=\"figure-second\""));
    }

    #[test]
    fn a_failing_claim_colours_the_headline() {
        let claims = vec![claim("a", Verdict::Holds, ""), claim("b", Verdict::Fails, "")];
        let html = Report { claims, ..Report::default() }.to_html();
        assert!(html.contains("class=\"headline fails\""));
        assert!(html.contains("<article class=\"claim fails\" id=\"claim-b\">"));
    }
}
