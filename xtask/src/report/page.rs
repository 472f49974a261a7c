//! HTML text: escaping, paragraphs and tables.

use flatmin_figures::{escape, plain};

pub(super) use super::math::typeset;

/// An identifier that is valid in `id` and in a link: other characters become hyphens.
pub(super) fn fragment(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    id.chars().map(safe).collect()
}

/// A link to a file beside the page, percent-encoded; it cannot name another host or a scheme.
pub(super) fn relative_link(path: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let encoded: String = path.bytes().map(encode).collect();
    format!("./{}", encoded.trim_start_matches('/'))
}

/// The markup for a text; an empty text has none.
pub(super) fn unless_empty(text: &str, markup: impl FnOnce(&str) -> String) -> String {
    if text.is_empty() { String::new() } else { markup(text) }
}

/// Escaped text, a paragraph for every part between blank lines.
pub(super) fn paragraphs(text: &str) -> String {
    let parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    let paragraph = |part| format!("<p>{}</p>\n", typeset(part));
    parts.map(paragraph).collect()
}

/// A table that scrolls sideways where it is too wide; nothing without rows. Columns that hold
/// numbers only are set flush right.
pub(super) fn table(name: &str, headers: &[String], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns = rows.iter().map(Vec::len).chain([headers.len()]).max().unwrap_or(0);
    let class = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        if cells.all(|cell| is_numeric(cell)) { " class=\"number\"" } else { "" }
    };
    let classes: Vec<&str> = (0..columns).map(class).collect();
    let cells = |tag: &str, texts: &[String]| -> String {
        let cell = |(column, class): (usize, &&str)| {
            let text = typeset(texts.get(column).map_or("", String::as_str));
            let open = if tag == "th" { "th scope=\"col\"" } else { tag };
            format!("<{open}{class}>{text}</{tag}>")
        };
        classes.iter().enumerate().map(cell).collect()
    };
    let head = match headers {
        [] => String::new(),
        headers => format!("<thead><tr>{}</tr></thead>\n", cells("th", headers)),
    };
    let row = |row: &Vec<String>| format!("<tr>{}</tr>\n", cells("td", row));
    let body: String = rows.iter().map(row).collect();
    let name = escape(&plain(name));
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">\n<table>\n\
         {head}<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )
}

/// True if a cell looks like a number, a range of numbers, or nothing.
fn is_numeric(cell: &str) -> bool {
    let mark =
        |c: char| c.is_ascii_digit() || " .,+-−–—e%∞[]()·×⁻⁰¹²³⁴⁵⁶⁷⁸⁹/\u{2009}\u{a0}".contains(c);
    matches!(cell, "inf" | "-inf" | "NaN") || cell.chars().all(mark)
}
