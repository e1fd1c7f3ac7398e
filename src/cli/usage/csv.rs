//! Lines of comma-separated values (RFC 4180).

/// One line. A cell with a comma, a quote or a line break is quoted.
pub fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            line.push('"');
            line += &cell.replace('"', "\"\"");
            line.push('"');
        } else {
            line += cell;
        }
    }
    line + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_cell_is_quoted() {
        assert_eq!(line(["a", "b,c", "say \"x\"", "", "two\nlines"]), "a,\"b,c\",\"say \"\"x\"\"\",,\"two\nlines\"\r\n");
    }
}
