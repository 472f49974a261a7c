//! The whole report, figure included, with a hostile text in every place that takes one: no
//! element, no attribute and no address that flatmin itself does not write.

use std::collections::BTreeSet;

use flatmin_experiments::{Claim, Measured, Verdict};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};
use xtask::report::{Report, Section};

/// Texts that try to leave their element, attribute, comment or subscript.
const EVIL: &[&str] = &[
    "</title></style><script>alert(1)</script>",
    "\" onload=\"alert(1)\" x=\"",
    "' onclick='alert(1)",
    "--><img src=x onerror=alert(1)><!--",
    "]]><svg onload=alert(1)><![CDATA[",
    "_{</sub><script>}_{\"}",
    "javascript:alert(1)",
    "//elsewhere.example/x.js",
    "&lt;script&gt; &#60;script&#62; &amp",
    "<base href=//elsewhere.example><meta http-equiv=refresh content=0>",
    "\u{0}<\u{0}script>\u{1b}[31m\u{fffe}",
    "<foreignObject><iframe srcdoc='<script>'>",
    "@import url(//elsewhere.example); url(javascript:x)",
];

fn figure(evil: &str) -> Figure {
    let text = || evil.to_owned();
    let axis = || Axis::log(text());
    let series = Series {
        label: text(),
        style: Style(0),
        mark: Mark::Line,
        points: vec![(1.0, 1.0), (2.0, 3.0)],
        notes: vec![text(), text()],
    };
    let kinds = [
        ReferenceKind::Horizontal(2.0),
        ReferenceKind::Vertical(1.5),
        ReferenceKind::Curve(vec![(1.0, 1.0), (2.0, 2.0)]),
    ];
    let references = kinds.into_iter().map(|kind| Reference { label: text(), kind }).collect();
    let panel = Panel { title: text(), x: axis(), y: axis(), series: vec![series], references };
    Figure { title: text(), subtitle: text(), columns: 1, panels: vec![panel] }
}

fn report(evil: &str) -> Report {
    let text = || evil.to_owned();
    let claim = Claim {
        id: text(),
        experiment: text(),
        sentence: text(),
        source: text(),
        predicate: text(),
        measured: vec![Measured::new(text(), &[1.0])],
        margin: None,
        runs: 1,
        verdict: Verdict::Fails,
        note: text(),
    };
    let section = Section {
        id: text(),
        title: text(),
        shows: text(),
        how: text(),
        svg: figure(evil).to_svg(),
        table_file: text(),
        headers: vec![text()],
        rows: vec![vec![text(), text()]],
        figure_file: text(),
    };
    Report {
        title: text(),
        summary: text(),
        lead: text(),
        facts: vec![(text(), text())],
        claims: vec![claim],
        sections: vec![section],
    }
}

/// The elements of a page with the names of their attributes, and all values of attributes that are
/// an address. Every `<` must begin a tag.
fn parts(html: &str) -> (BTreeSet<String>, Vec<String>) {
    let (mut names, mut addresses) = (BTreeSet::new(), Vec::new());
    for piece in html.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("no tag: <{piece}"));
        let tag = tag.trim_end_matches('/');
        let (name, mut rest) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        let name = name.trim_start_matches('/');
        names.insert(name.to_owned());
        while let Some((attribute, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"').expect("a value in quotes");
            let attribute = attribute.trim();
            names.insert(format!("{name} {attribute}"));
            if matches!(attribute, "href" | "src" | "xlink:href" | "action" | "style") {
                addresses.push(value.to_owned());
            }
            rest = after;
        }
        names.extend(rest.split_whitespace().map(|word| format!("{name} {word}")));
    }
    (names, addresses)
}

#[test]
fn no_text_adds_an_element_an_attribute_or_an_address() {
    // It has every element of a formula, which flatmin writes itself.
    let (expected, _) = parts(&report("harmless_{text} ≤ 2² + η*").to_html());
    assert!(expected.contains("svg") && expected.contains("a href"), "{expected:?}");
    for forbidden in ["script", "iframe", "object", "embed", "link", "img", "image", "base", "form"]
    {
        assert!(!expected.contains(forbidden), "{forbidden}");
    }
    assert!(!expected.iter().any(|name| name.contains(" on")), "{expected:?}");
    for evil in EVIL {
        let html = report(evil).to_html();
        let (found, addresses) = parts(&html);
        let new: Vec<_> = found.difference(&expected).collect();
        assert!(new.is_empty(), "{evil:?} adds {new:?}");
        for address in addresses {
            let is_own = address.starts_with('#') || address.starts_with("./");
            assert!(is_own && !address.contains([':', '\\']), "{evil:?}: {address:?}");
        }
        assert!(!html.contains(['\u{0}', '\u{1b}', '\u{fffe}']), "{evil:?}");
    }
}

#[test]
fn the_policy_stands_before_everything_it_is_about() {
    let html = report(EVIL[0]).to_html();
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
                  style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">";
    assert_eq!(html.matches("http-equiv").count(), 1);
    let place = html.find(policy).expect("the policy");
    for element in ["<title", "<style", "<svg", "<body"] {
        assert!(html.find(element).expect(element) > place, "{element}");
    }
    // A policy can be no weaker than this: no source of scripts is named, not even the page.
    assert!(!policy.contains("script-src") && !policy.contains("http:"));
}
