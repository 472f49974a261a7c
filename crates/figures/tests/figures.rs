//! Claims about whole figures, through the public interface.

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

fn series(label: &str, mark: Mark, points: &[(f64, f64)]) -> Series {
    Series::new(label, Style(0), mark, points.to_vec())
}

fn panel(series: Vec<Series>) -> Panel {
    Panel {
        title: "trace".to_owned(),
        x: Axis::log("learning rate η"),
        y: Axis::log("tr G"),
        series,
        references: Vec::new(),
    }
}

fn figure(panels: Vec<Panel>) -> Figure {
    Figure { title: "sharpness".to_owned(), subtitle: String::new(), columns: 2, panels }
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn text_from_outside_is_escaped() {
    let mut figure = figure(vec![panel(vec![series("a<b & \"c\"", Mark::Points, &[(1.0, 1.0)])])]);
    figure.title = "<script>alert('x')</script>\u{0}".to_owned();
    let svg = figure.to_svg();
    assert!(!svg.contains("<script"), "{svg}");
    assert!(!svg.contains('\u{0}'));
    assert!(svg.contains("a&lt;b &amp; &quot;c&quot;"));
}

#[test]
fn points_that_cannot_be_drawn_are_dropped_and_break_lines() {
    let points =
        [(1.0, 1.0), (2.0, 2.0), (f64::NAN, 1.0), (3.0, 0.0), (4.0, 1.0), (5.0, f64::INFINITY)];
    let svg = figure(vec![panel(vec![series("s", Mark::LineAndPoints, &points)])]).to_svg();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    // Three drawable points in the panel and one marker in the legend.
    assert_eq!(count(&svg, "a4 4 0 1 0 8 0"), 4);
    let line = svg.lines().filter(|line| line.contains(r#"stroke-width="2.2""#)).nth(1);
    assert_eq!(count(line.expect("the series' line"), "M"), 2);
}

#[test]
fn a_pointer_on_a_marker_shows_where_its_point_comes_from_and_its_values() {
    let points = [(0.01, 123.456), (0.02, f64::NAN), (0.04, 2e7)];
    let notes = ["seed 1", "seed 2", "seed <3>"].map(str::to_owned);
    let dots = series("SGD", Mark::Points, &points).with_notes(notes);
    let mut panel = panel(vec![dots]);
    panel.y = Axis::log("λ_{max}");
    let svg = figure(vec![panel]).to_svg();
    let titles: Vec<&str> =
        svg.split("<title>").skip(1).filter_map(|part| part.split("</title>").next()).collect();
    let titles: Vec<&str> = titles.into_iter().filter(|title| title.contains("seed")).collect();
    let expected = [
        "SGD, seed 1; learning rate η: 0.01; λ_max: 123.5",
        "SGD, seed &lt;3&gt;; learning rate η: 0.04; λ_max: 2.000e7",
    ];
    assert_eq!(titles, expected);
    let plain = figure(vec![self::panel(vec![series("", Mark::Points, &[(1.0, 2.0)])])]);
    assert!(plain.to_svg().contains("<title>learning rate η: 1; tr G: 2</title>"));
}

#[test]
fn error_bars_connect_pairs_and_need_both_ends() {
    let ends = [(1.0, 1.0), (1.0, 2.0), (2.0, 0.0), (2.0, 3.0), (3.0, 1.0), (3.0, 2.0)];
    let svg = figure(vec![panel(vec![series("s", Mark::Intervals, &ends)])]).to_svg();
    let lines = svg.lines().filter(|line| line.contains(r#"stroke-width="1.4""#));
    // The legend's bar, then the two whole pairs.
    let pieces: Vec<usize> = lines.map(|line| count(line, "M")).collect();
    assert_eq!(pieces, [1, 2]);
}

#[test]
fn a_panel_without_data_says_so_and_its_series_is_not_in_the_legend() {
    let svg = figure(vec![panel(vec![series("gone", Mark::Line, &[(1.0, -1.0)])])]).to_svg();
    assert!(svg.contains(">no data</text>"));
    assert!(!svg.contains("gone"));
}

#[test]
fn a_reference_is_named_on_its_line_and_out_of_view_with_an_arrow() {
    let reference =
        |value| Reference { label: "bound".to_owned(), kind: ReferenceKind::Horizontal(value) };
    let with = |value| Panel {
        references: vec![reference(value)],
        ..panel(vec![series("s", Mark::Points, &[(1.0, 1.0), (2.0, 3.0)])])
    };
    let svg = figure(vec![with(5.0)]).to_svg();
    // Legend and line.
    assert_eq!(count(&svg, ">bound</text>"), 2);
    let svg = figure(vec![with(1e9)]).to_svg();
    assert_eq!(count(&svg, ">↑ bound</text>"), 1);
}

#[test]
fn attributes_carry_at_most_two_decimals_and_no_negative_zero() {
    let points: Vec<(f64, f64)> =
        (1..40).map(|i| (1.0 / f64::from(i), 3.7 * f64::from(i))).collect();
    let curve = Reference { label: "fit".to_owned(), kind: ReferenceKind::Curve(points.clone()) };
    let busy = [Mark::Line, Mark::Points, Mark::LineAndPoints].map(|m| series("s", m, &points));
    let busy = figure(vec![Panel { references: vec![curve], ..panel(busy.to_vec()) }]);
    let svg = busy.to_svg();
    assert_eq!(svg, busy.clone().to_svg());
    // What a pointer shows is text.
    let mut parts = svg.split("<title>");
    let first = parts.next().unwrap_or_default();
    let rest = parts.filter_map(|part| part.split_once("</title>")).map(|(_, behind)| behind);
    let svg: String = std::iter::once(first).chain(rest).collect();
    for number in svg.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')) {
        let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert!(decimals <= 2 && number != "-0", "{number}");
    }
}

#[test]
fn clip_paths_of_different_figures_have_different_names() {
    let first = figure(vec![panel(vec![series("s", Mark::Points, &[(1.0, 1.0)])])]);
    let second = Figure { title: "balance".to_owned(), ..first.clone() };
    let id = |svg: &str| svg.split("clipPath id=\"").nth(1).map(|rest| rest[..18].to_owned());
    assert_ne!(id(&first.to_svg()), id(&second.to_svg()));
}

#[test]
fn empty_figures_are_valid_documents() {
    for figure in [Figure::default(), figure(vec![panel(Vec::new())])] {
        let svg = figure.to_svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }
}

#[test]
fn a_panel_without_a_title_is_described_like_the_others() {
    let mut figure = figure(vec![panel(vec![series("s", Mark::Line, &[(1.0, 1.0), (2.0, 2.0)])])]);
    let axes = "tr G (log scale) against learning rate η (log scale): s.";
    assert!(figure.to_svg().contains(&format!("<desc>trace: {axes}</desc>")));
    figure.subtitle = "Two runs.".to_owned();
    figure.panels[0].title.clear();
    assert!(figure.to_svg().contains(&format!("<desc>Two runs. Drawn: {axes}</desc>")));
}
