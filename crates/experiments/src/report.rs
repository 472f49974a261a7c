//! The report: one HTML page that holds the claims, the figures and how they were made.
//!
//! The page is self-contained: no script, no external style, font or image, and a content security
//! policy that forbids them. Every text is escaped, with `_{…}` set as a subscript as in the figures;
//! only [`Section::svg`] is taken as markup.

use std::fmt;

use flatmin_figures::{Level, escape, levels, plain};

/// Everything the page shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// What this is about, in a few sentences; a blank line starts a new paragraph.
    pub summary: String,
    /// How the run was set up, as name and value: profile, seeds, version, …
    pub facts: Vec<(String, String)>,
    /// The judged claims, in the order shown.
    pub claims: Vec<ReportClaim>,
    /// The figures, in the order shown.
    pub sections: Vec<Section>,
}

/// A claim with what was measured and the verdict on it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReportClaim {
    /// Short identifier, unique in the report.
    pub id: String,
    /// The claim in one sentence.
    pub sentence: String,
    /// Statement ids it rests on, such as `S2, S5`.
    pub source: String,
    /// The predicate that was tested, in words.
    pub predicate: String,
    /// What was measured.
    pub measured: Vec<MeasuredRow>,
    /// `holds`, `fails` or `undecided`; anything else is shown as undecided, in its own words.
    pub verdict: String,
    /// Anything to add, such as what is true instead; empty for nothing.
    pub note: String,
}

/// One measured quantity over all of its runs; numbers come ready to print.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeasuredRow {
    /// What was measured, with symbol and unit.
    pub quantity: String,
    /// Median over the runs.
    pub median: String,
    /// Smallest value over the runs.
    pub minimum: String,
    /// Largest value over the runs.
    pub maximum: String,
    /// Number of runs.
    pub runs: usize,
}

/// One figure with its text and a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Short identifier, unique in the report.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What the figure shows; a blank line starts a new paragraph.
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

/// The verdict on a claim, as far as its looks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Holds,
    Fails,
    Undecided,
}

impl Verdict {
    fn of(claim: &ReportClaim) -> Self {
        match claim.verdict.as_str() {
            "holds" => Self::Holds,
            "fails" => Self::Fails,
            _ => Self::Undecided,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Holds => "✓",
            Self::Fails => "✗",
            Self::Undecided => "?",
        }
    }
}

const STYLE: &str = r#":root { color-scheme: light; }
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 100rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.55 "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
}
p, h1, h2, h3, h4, li { max-width: 48rem; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 0.75rem; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 2.75rem 0 0.75rem; }
h3 { font-size: 1.1rem; margin: 1.5rem 0 0.5rem; }
h4 { font-size: 1rem; margin: 0 0 0.4rem; }
p { margin: 0 0 0.75rem; }
a { color: #0b4f9e; }
code { font-family: "DejaVu Sans Mono", Consolas, Menlo, monospace; font-size: 0.92em; }
nav { border: 1px solid #d5d5d5; border-radius: 4px; padding: 0.75rem 1.25rem; max-width: 48rem; }
nav h2 { font-size: 1rem; margin: 0 0 0.3rem; }
nav ol { margin: 0; padding-left: 1.5rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.93rem; margin: 0 0 0.75rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.75rem; border-bottom: 1px solid #dcdcdc; }
thead th { border-bottom: 2px solid #8a8a8a; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.verdicts { width: 100%; max-width: 62rem; }
.verdicts td:first-child, .verdicts th { white-space: nowrap; }
.facts th { font-weight: 600; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
.headline { font-size: 1.25rem; font-weight: 700; padding: 0.6rem 1rem; border-left: 6px solid; max-width: 62rem; }
.headline.holds { border-color: #1a6b2f; background: #eef7f0; }
.headline.fails { border-color: #b00020; background: #fdecee; }
.headline.undecided { border-color: #8a5a00; background: #fdf5e6; }
.badge { font-weight: 700; white-space: nowrap; }
.badge.holds { color: #1a6b2f; }
.badge.fails { color: #fff; background: #b00020; padding: 0.05rem 0.45rem; border-radius: 3px; }
.badge.undecided { color: #7a4f00; }
tr.fails td, tr.fails th { background: #fdecee; }
.claim { border-left: 4px solid #c9c9c9; padding: 0.1rem 0 0.1rem 1rem; margin: 0 0 1.5rem; max-width: 62rem; }
.claim.holds { border-color: #1a6b2f; }
.claim.fails { border-color: #b00020; background: #fdecee; padding: 0.75rem 1rem; }
.claim.undecided { border-color: #8a5a00; border-left-style: dashed; }
.claim:target, tr:target { outline: 2px solid #0b4f9e; outline-offset: 4px; }
.source { color: #555; font-size: 0.93rem; }
sub { line-height: 0; }
.note { border: 1px solid #c9c9c9; background: #fff; padding: 0.5rem 0.75rem; margin: 0 0 0.75rem; }
.note p:last-child { margin: 0; }
figure { margin: 1rem 0; }
figure svg { display: block; max-width: 100%; height: auto; }
.files { color: #555; }
summary { cursor: pointer; font-weight: 600; margin: 0 0 0.5rem; }
footer { margin-top: 3rem; border-top: 1px solid #dcdcdc; padding-top: 0.75rem; color: #555; }
@media (max-width: 60rem) { figure svg { max-width: none; } }
@media (max-width: 40rem) {
  body { padding: 1rem 0.9rem 2rem; }
  h1 { font-size: 1.5rem; }
  th, td { padding: 0.3rem 0.45rem; }
  .verdicts { table-layout: auto; }
  .facts th { white-space: normal; }
}
@media print {
  @page { margin: 15mm; }
  :root { font-size: 9.5pt; }
  body { padding: 0; max-width: none; }
  .claim { margin-bottom: 1rem; }
  nav, details { display: none; }
  a { color: inherit; text-decoration: none; }
  .scroll { overflow: visible; }
  figure, .claim, tr { break-inside: avoid; }
  figure svg { max-width: 100%; max-height: 215mm; margin: 0 auto; }
  h1, h2, h3, h4 { break-after: avoid; }
  .experiment { break-before: page; }
  .headline, .badge, tr.fails td, tr.fails th, .claim, .note { print-color-adjust: exact; }
}
"#;

/// Nothing is loaded, run or sent; only the page's own styles apply.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

impl Report {
    /// The page as a complete HTML document.
    pub fn to_html(&self) -> String {
        let mut page = Page::default();
        let (title, heading) = (escape(&plain(&self.title)), typeset(&self.title));
        page.line(format_args!(
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
<h1>{heading}</h1>"#
        ));
        page.paragraphs(&self.summary);
        page.line(format_args!("</header>"));
        self.write_contents(&mut page);
        page.line(format_args!("<main>"));
        self.write_claims(&mut page);
        for section in &self.sections {
            section.write(&mut page);
        }
        self.write_facts(&mut page);
        page.line(format_args!(
            "</main>\n<footer>\n<p>Made by <code>cargo xtask reproduce</code>, which writes this page, the \
             figures and the tables from the stored results of the runs; the same command makes them \
             again.</p>\n</footer>\n</body>\n</html>"
        ));
        page.buffer
    }

    fn write_contents(&self, page: &mut Page) {
        page.line(format_args!(
            "<nav aria-labelledby=\"contents\">\n<h2 id=\"contents\">Contents</h2>\n<ol>"
        ));
        page.line(format_args!(r##"<li><a href="#claims">Claims</a></li>"##));
        for section in &self.sections {
            let (id, title) = (fragment(&section.id), typeset(&section.title));
            page.line(format_args!(r##"<li><a href="#figure-{id}">{title}</a></li>"##));
        }
        if !self.facts.is_empty() {
            page.line(format_args!(r##"<li><a href="#setup">How this was run</a></li>"##));
        }
        page.line(format_args!("</ol>\n</nav>"));
    }

    fn write_claims(&self, page: &mut Page) {
        page.line(format_args!("<section>\n<h2 id=\"claims\">Claims</h2>"));
        let headline = escape(&self.headline());
        let class = self.worst().class();
        page.line(format_args!(r#"<p class="headline {class}">{headline}</p>"#));
        if self.claims.is_empty() {
            page.line(format_args!("</section>"));
            return;
        }
        page.line(format_args!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"claims\">\n\
             <table class=\"verdicts\">\n<thead><tr><th scope=\"col\">Verdict</th>\
             <th scope=\"col\">Claim</th><th scope=\"col\">In words</th></tr></thead>\n<tbody>"
        ));
        for claim in &self.claims {
            let (class, badge) = (Verdict::of(claim).class(), badge(claim));
            let (anchor, id) = (fragment(&claim.id), escape(&claim.id));
            let sentence = typeset(&claim.sentence);
            page.line(format_args!(
                r##"<tr class="{class}"><td>{badge}</td><th scope="row"><a href="#claim-{anchor}">{id}</a></th><td>{sentence}</td></tr>"##
            ));
        }
        page.line(format_args!("</tbody>\n</table>\n</div>"));
        page.line(format_args!("<h3>What was measured</h3>"));
        for claim in &self.claims {
            claim.write(page);
        }
        page.line(format_args!("</section>"));
    }

    /// The count in words, with the names of the claims that do not hold.
    fn headline(&self) -> String {
        let named = |verdict: Verdict| -> Vec<&str> {
            let claims = self.claims.iter().filter(|claim| Verdict::of(claim) == verdict);
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
        let any = |verdict| self.claims.iter().any(|claim| Verdict::of(claim) == verdict);
        match (any(Verdict::Fails), any(Verdict::Undecided), any(Verdict::Holds)) {
            (true, ..) => Verdict::Fails,
            (false, false, true) => Verdict::Holds,
            _ => Verdict::Undecided,
        }
    }

    fn write_facts(&self, page: &mut Page) {
        if self.facts.is_empty() {
            return;
        }
        page.line(format_args!(
            "<section>\n<h2 id=\"setup\">How this was run</h2>\n<table class=\"facts\">\n<tbody>"
        ));
        for (name, value) in &self.facts {
            let (name, value) = (typeset(name), typeset(value));
            page.line(format_args!(r#"<tr><th scope="row">{name}</th><td>{value}</td></tr>"#));
        }
        page.line(format_args!("</tbody>\n</table>\n</section>"));
    }
}

impl ReportClaim {
    fn write(&self, page: &mut Page) {
        let (class, badge) = (Verdict::of(self).class(), badge(self));
        let (anchor, id, sentence) =
            (fragment(&self.id), escape(&self.id), typeset(&self.sentence));
        page.line(format_args!(
            "<article class=\"claim {class}\" id=\"claim-{anchor}\">\n<h4>{badge} {id}: {sentence}</h4>"
        ));
        let predicate = typeset(&self.predicate);
        page.line(format_args!("<p><b>Tested:</b> {predicate}</p>"));
        if !self.source.is_empty() {
            let source = escape(&self.source);
            page.line(format_args!("<p class=\"source\">Source: {source}</p>"));
        }
        if !self.note.is_empty() {
            page.line(format_args!("<div class=\"note\">"));
            page.paragraphs(&self.note);
            page.line(format_args!("</div>"));
        }
        let headers = ["Quantity", "Median", "Minimum", "Maximum", "Runs"].map(str::to_owned);
        let row = |row: &MeasuredRow| {
            let MeasuredRow { quantity, median, minimum, maximum, runs } = row.clone();
            vec![quantity, median, minimum, maximum, runs.to_string()]
        };
        let rows: Vec<Vec<String>> = self.measured.iter().map(row).collect();
        page.table(&format!("measured for {}", self.id), &headers, &rows);
        page.line(format_args!("</article>"));
    }
}

impl Section {
    fn write(&self, page: &mut Page) {
        let (id, title) = (fragment(&self.id), typeset(&self.title));
        page.line(format_args!(
            "<section class=\"experiment\">\n<h2 id=\"figure-{id}\">{title}</h2>"
        ));
        page.paragraphs(&self.shows);
        if !self.svg.is_empty() {
            let svg = &self.svg;
            page.line(format_args!(
                "<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
                 aria-labelledby=\"figure-{id}\">\n{svg}</div>\n</figure>"
            ));
        }
        if !self.how.is_empty() {
            page.line(format_args!("<h3>How it was run</h3>"));
            page.paragraphs(&self.how);
        }
        let files = [("Data", &self.table_file), ("Figure", &self.figure_file)];
        let links: Vec<String> = files
            .into_iter()
            .filter(|(_, file)| !file.is_empty())
            .map(|(name, file)| {
                format!("{name}: <a href=\"{}\">{}</a>", relative_link(file), escape(file))
            })
            .collect();
        if !links.is_empty() {
            page.line(format_args!("<p class=\"files\">{}</p>", links.join(" · ")));
        }
        if !self.rows.is_empty() {
            page.line(format_args!("<details>\n<summary>Summary table</summary>"));
            page.table(&format!("summary of {}", self.title), &self.headers, &self.rows);
            page.line(format_args!("</details>"));
        }
        page.line(format_args!("</section>"));
    }
}

/// The verdict as symbol and word.
fn badge(claim: &ReportClaim) -> String {
    let verdict = Verdict::of(claim);
    let (class, symbol, word) = (verdict.class(), verdict.symbol(), escape(&claim.verdict));
    format!(
        "<span class=\"badge {class}\"><span aria-hidden=\"true\">{symbol}</span> {word}</span>"
    )
}

/// Escaped text, with `_{…}` as a subscript, as in the figures.
fn typeset(text: &str) -> String {
    let write = |(level, piece): (Level, &str)| match level {
        Level::Line => escape(piece),
        Level::Subscript => format!("<sub>{}</sub>", escape(piece)),
    };
    levels(text).into_iter().map(write).collect()
}

/// An identifier that is valid in `id` and in a link: other characters become hyphens.
fn fragment(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    id.chars().map(safe).collect()
}

/// A link to a file beside the page, percent-encoded; it cannot name another host or a scheme.
fn relative_link(path: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let encoded: String = path.bytes().map(encode).collect();
    format!("./{}", encoded.trim_start_matches('/'))
}

/// A growing page.
#[derive(Debug, Default)]
struct Page {
    buffer: String,
}

impl Page {
    /// Appends markup and a newline; whatever comes from outside must have been escaped.
    fn line(&mut self, markup: fmt::Arguments<'_>) {
        use fmt::Write;
        self.buffer.write_fmt(markup).expect("writing to a String cannot fail");
        self.buffer.push('\n');
    }

    /// Escaped text, a paragraph for every part between blank lines.
    fn paragraphs(&mut self, text: &str) {
        for part in text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()) {
            let part = typeset(part);
            self.line(format_args!("<p>{part}</p>"));
        }
    }

    /// A table that scrolls sideways where it is too wide; nothing without rows. Columns that hold
    /// numbers only are set flush right.
    fn table(&mut self, name: &str, headers: &[String], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let columns = rows.iter().map(Vec::len).chain([headers.len()]).max().unwrap_or(0);
        let class = |column: usize| {
            let mut cells = rows.iter().filter_map(|row| row.get(column));
            if cells.all(|cell| is_numeric(cell)) { " class=\"number\"" } else { "" }
        };
        let classes: Vec<&str> = (0..columns).map(class).collect();
        let name = escape(&plain(name));
        self.line(format_args!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">\n<table>"
        ));
        let cells = |tag: &str, texts: &[String]| -> String {
            let cell = |(column, class): (usize, &&str)| {
                let text = typeset(texts.get(column).map_or("", String::as_str));
                let open = if tag == "th" { "th scope=\"col\"" } else { tag };
                format!("<{open}{class}>{text}</{tag}>")
            };
            classes.iter().enumerate().map(cell).collect()
        };
        if !headers.is_empty() {
            let head = cells("th", headers);
            self.line(format_args!("<thead><tr>{head}</tr></thead>"));
        }
        self.line(format_args!("<tbody>"));
        for row in rows {
            let row = cells("td", row);
            self.line(format_args!("<tr>{row}</tr>"));
        }
        self.line(format_args!("</tbody>\n</table>\n</div>"));
    }
}

/// Whether a cell looks like a number, a range of numbers, or nothing.
fn is_numeric(cell: &str) -> bool {
    let mark = |c: char| c.is_ascii_digit() || " .,+-−–—e%∞[]()·×⁻⁰¹²³⁴⁵⁶⁷⁸⁹/\u{2009}".contains(c);
    matches!(cell, "inf" | "-inf" | "NaN") || cell.chars().all(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, verdict: &str) -> ReportClaim {
        ReportClaim { id: id.to_owned(), verdict: verdict.to_owned(), ..ReportClaim::default() }
    }

    #[test]
    fn the_headline_counts_and_names_what_does_not_hold() {
        let check = |verdicts: &[(&str, &str)], expected: &str| {
            let claims = verdicts.iter().map(|(id, verdict)| claim(id, verdict)).collect();
            assert_eq!(Report { claims, ..Report::default() }.headline(), expected);
        };
        check(&[], "No claims were judged.");
        check(&[("a", "holds"), ("b", "holds")], "2 of 2 claims hold.");
        check(
            &[("a", "fails"), ("b", "holds"), ("c", "undecided"), ("d", "fails")],
            "1 of 4 claims hold. Failing: a, d. Undecided: c.",
        );
    }

    #[test]
    fn every_text_is_escaped() {
        let bad = "<script>\"'&".to_owned();
        let row = MeasuredRow {
            quantity: bad.clone(),
            median: bad.clone(),
            minimum: bad.clone(),
            maximum: bad.clone(),
            runs: 1,
        };
        let claim = ReportClaim {
            id: bad.clone(),
            sentence: bad.clone(),
            source: bad.clone(),
            predicate: bad.clone(),
            measured: vec![row],
            verdict: bad.clone(),
            note: bad.clone(),
        };
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
            claims: vec![claim],
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
        let claims = vec![claim("a", "holds"), claim("b", "fails")];
        let html = Report { claims, ..Report::default() }.to_html();
        assert!(html.contains("class=\"headline fails\""));
        assert!(html.contains("<article class=\"claim fails\" id=\"claim-b\">"));
    }
}
