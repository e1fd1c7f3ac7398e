//! A badge: a small SVG that says a name and a value.

use super::page::escaped;

/// The badge.
pub(super) fn svg(name: &str, value: &str, colour: &str) -> String {
    // Characters of the font are about 6.5 wide.
    let width = |text: &str| text.chars().count() as f64 * 6.5 + 12.0;
    let (left, right) = (width(name), width(value));
    let (whole, name, value) = (left + right, escaped(name), escaped(value));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole:.0}\" height=\"20\" role=\"img\" aria-label=\"{name}: {value}\">\
         <title>{name}: {value}</title><rect width=\"{left:.0}\" height=\"20\" fill=\"#444\"/>\
         <rect x=\"{left:.0}\" width=\"{right:.0}\" height=\"20\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,sans-serif\" font-size=\"11\">\
         <text x=\"{:.0}\" y=\"14\">{name}</text><text x=\"{:.0}\" y=\"14\">{value}</text></g></svg>",
        left / 2.0,
        left + right / 2.0,
    )
}
