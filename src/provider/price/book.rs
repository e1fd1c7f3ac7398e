//! Each row of the built-in table against a second book, `book.txt`, with arithmetic of its own: decimal texts, digit by digit, as on paper.
//!
//! Nothing of the product's arithmetic is used here. A rate, a factor or a class that is mixed up in the table is a difference from the
//! book. The book says nothing about the pages: whoever changes a price reads its page and changes both.

use std::{collections::BTreeMap, sync::LazyLock};

use super::*;
use crate::clock::Clock;

const BOOK: &str = include_str!("book.txt");

static TABLE: LazyLock<Prices> = LazyLock::new(|| Prices::new(&[]));

/// A decimal number: its digits, the lowest first, and how many of them stand behind the point.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal(Vec<u32>, usize);

impl Decimal {
    fn read(text: &str) -> Self {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = whole.chars().chain(part.chars()).rev();
        Self(digits.map(|digit| digit.to_digit(10).expect("a digit")).collect(), part.len())
    }

    /// Each digit times each digit of the other number, moved by its place, with carries.
    fn times(&self, other: &Self) -> Self {
        let mut product = vec![0; self.0.len() + other.0.len()];
        for (at, left) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (place, right) in other.0.iter().enumerate() {
                let sum = product[at + place] + left * right + carry;
                (product[at + place], carry) = (sum % 10, sum / 10);
            }
            product[at + other.0.len()] += carry;
        }
        Self(product, self.1 + other.1)
    }

    fn plus(&self, other: &Self) -> Self {
        let places = self.1.max(other.1);
        let (left, right) = (self.with_places(places), other.with_places(places));
        let (mut sum, mut carry) = (Vec::new(), 0);
        for at in 0..left.0.len().max(right.0.len()) + 1 {
            let digit = left.0.get(at).unwrap_or(&0) + right.0.get(at).unwrap_or(&0) + carry;
            sum.push(digit % 10);
            carry = digit / 10;
        }
        Self(sum, places)
    }

    /// The number with more zeros behind the point.
    fn with_places(&self, places: usize) -> Self {
        Self(std::iter::repeat_n(0, places - self.1).chain(self.0.iter().copied()).collect(), places)
    }

    /// A millionth, a thousandth: the point moves.
    fn shifted(mut self, places: usize) -> Self {
        self.0.extend(vec![0; places]);
        Self(self.0, self.1 + places)
    }

    /// Long division from the highest digit on, with this many places behind the point and rounded up there.
    fn over(&self, divisor: u32, places: usize) -> Self {
        let number = if self.1 < places { self.with_places(places) } else { self.clone() };
        let (mut quotient, mut rest) = (vec![0; number.0.len()], 0);
        for at in (0..number.0.len()).rev() {
            rest = rest * 10 + number.0[at];
            (quotient[at], rest) = (rest / divisor, rest % divisor);
        }
        let mut up = rest > 0 || quotient[..number.1 - places].iter().any(|digit| *digit > 0);
        quotient.drain(..number.1 - places);
        for digit in &mut quotient {
            if !up {
                break;
            }
            up = *digit == 9;
            *digit = if up { 0 } else { *digit + 1 };
        }
        if up {
            quotient.push(1);
        }
        Self(quotient, places)
    }

    fn text(&self) -> String {
        let digits: String = self.0.iter().rev().map(|digit| char::from_digit(*digit, 10).expect("a digit")).collect();
        let (whole, part) = digits.split_at(digits.len() - self.1);
        let whole = whole.trim_start_matches('0');
        format!("{}.{part}", if whole.is_empty() { "0" } else { whole })
    }
}

/// A line of the book.
struct Booked {
    model: &'static str,
    rates: Vec<Decimal>,
    long: Option<(u64, Vec<Decimal>)>,
    /// Factors of tiers and of a region: numerator and denominator.
    factors: BTreeMap<&'static str, (Decimal, u32)>,
    fees: BTreeMap<&'static str, Decimal>,
}

fn book() -> Vec<Booked> {
    let lines = BOOK.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (model, rest) = line.split_once(": ").expect("a name");
            let mut parts = rest.split(" | ");
            let numbers = |text: &str| text.split(' ').map(Decimal::read).collect::<Vec<_>>();
            let mut booked =
                Booked { model, rates: numbers(parts.next().expect("rates")), long: None, factors: BTreeMap::new(), fees: BTreeMap::new() };
            for part in parts {
                if let Some((above, rates)) = part.strip_prefix("long ").and_then(|long| long.split_once(' ')) {
                    booked.long = Some((above.parse().expect("a step"), numbers(rates)));
                    continue;
                }
                for (name, value) in part.split(' ').map(|pair| pair.split_once('=').expect("a pair")) {
                    if Units::NAMES.contains(&name) {
                        booked.fees.insert(name, Decimal::read(value));
                    } else {
                        let (above, below) = value.split_once('/').unwrap_or((value, "1"));
                        booked.factors.insert(name, (Decimal::read(above), below.parse().expect("a divisor")));
                    }
                }
            }
            booked
        })
        .collect()
}

impl Booked {
    /// A name that the row is for.
    fn name(&self) -> String {
        self.model.replace('*', "99")
    }

    /// What tokens and units cost, in dollars with nine places.
    fn bill(&self, tokens: [u64; CLASSES], units: [u64; UNITS], terms: &[&str]) -> String {
        let counted = |number: u64| Decimal::read(&number.to_string());
        let input: u64 = [0, 1, 2, 3, 5, 6, 8, 9].into_iter().map(|at: usize| tokens[at]).sum();
        let rates = self.long.as_ref().filter(|(above, _)| input > *above).map_or(&self.rates, |(_, rates)| rates);
        let mut sum = Decimal::read("0");
        for (rate, tokens) in rates.iter().zip(tokens) {
            let mut line = rate.times(&counted(tokens)).shifted(6);
            for term in terms {
                let (above, below) = &self.factors[term];
                line = line.times(above).over(*below, 15);
            }
            sum = sum.plus(&line);
        }
        for (name, units) in Units::NAMES.into_iter().zip(units) {
            if let Some(fee) = self.fees.get(name) {
                sum = sum.plus(&fee.times(&counted(units)).shifted(3));
            }
        }
        sum.over(1, 9).text()
    }

    /// What the product charges for it.
    fn charged(&self, tokens: [u64; CLASSES], units: [u64; UNITS], terms: Terms) -> String {
        let [web_searches, file_searches, containers, grounding_queries, grounded_answers, audio_millis] = units;
        let units = Units { web_searches, file_searches, containers, grounding_queries, grounded_answers, audio_millis };
        let observed = Observed { usage: Usage::of(tokens, 0), units, terms, ..Observed::default() };
        usd(TABLE.charge(Some(&self.name()), &observed).expect("a price"))
    }
}

#[test]
fn paper_and_pencil() {
    for (text, times, over, places, result) in
        [("2.50", "3", 1, 9, "7.500000000"), ("0.1", "1", 3, 4, "0.0334"), ("9.99", "1", 1, 1, "10.0"), ("0.0199", "100", 2, 2, "1.00")]
    {
        assert_eq!(Decimal::read(text).times(&Decimal::read(times)).over(over, places).text(), result, "{text}");
    }
    assert_eq!(Decimal::read("9.95").plus(&Decimal::read("0.1")).text(), "10.05");
}

#[test]
fn the_book_has_every_row_of_the_table_and_no_other() {
    let mut table: Vec<String> = TABLE.rows(None).into_iter().map(|row| row.model).collect();
    let mut booked: Vec<String> = book().iter().map(|row| row.model.to_owned()).collect();
    table.sort();
    booked.sort();
    assert_eq!(table, booked);
    for row in book() {
        let found = TABLE.known(&row.name()).expect("a row");
        assert_eq!(found.model.as_str(), row.model, "the name that stands for the row is another's");
    }
}

#[test]
fn each_class_of_each_model_costs_what_the_book_says() {
    for row in book() {
        for at in 0..CLASSES {
            for tokens in [1, 7, 999, 99_999] {
                let mut all = [0; CLASSES];
                all[at] = tokens;
                let bill = row.bill(all, [0; UNITS], &[]);
                assert_eq!(row.charged(all, [0; UNITS], Terms::default()), bill, "{}: {tokens} of {}", row.model, Usage::NAMES[at]);
            }
        }
        for at in 0..UNITS {
            let mut all = [0; UNITS];
            all[at] = 12_347;
            let bill = row.bill([0; CLASSES], all, &[]);
            assert_eq!(row.charged([0; CLASSES], all, Terms::default()), bill, "{}: {}", row.model, Units::NAMES[at]);
        }
    }
}

#[test]
fn whole_calls_cost_what_the_book_says_in_every_tier_and_length() {
    let tiers = [("flex", Tier::Flex), ("batch", Tier::Batch), ("fast", Tier::Fast), ("ultrafast", Tier::Ultrafast)];
    let short = [1_201, 20_017, 3_001, 2_003, 60_013, 1_511, 709, 907, 1_103, 503, 1_290];
    for row in book() {
        let lengths = [Some(0), row.long.as_ref().map(|(above, _)| *above)];
        for more in lengths.into_iter().flatten() {
            let mut tokens = short;
            tokens[0] += more;
            let bill = |terms: &[&str]| row.bill(tokens, [3, 2, 1, 5, 4, 9_000], terms);
            let charged = |tier, regional| row.charged(tokens, [3, 2, 1, 5, 4, 9_000], Terms { tier, regional, each_above: None });
            assert_eq!(charged(Tier::Standard, false), bill(&[]), "{}, {more} more", row.model);
            for (name, tier) in tiers.iter().filter(|(name, _)| row.factors.contains_key(name)) {
                assert_eq!(charged(*tier, false), bill(&[name]), "{}, {name}, {more} more", row.model);
            }
            let region: &[&str] = if row.factors.contains_key("regional") { &["regional"] } else { &[] };
            assert_eq!(charged(Tier::Standard, true), bill(region), "{}, in a region, {more} more", row.model);
        }
    }
}

#[test]
fn the_step_of_a_long_context_is_the_books() {
    for row in book() {
        let Some((above, _)) = row.long else { continue };
        for tokens in [above, above + 1] {
            let mut all = [0; CLASSES];
            (all[0], all[4]) = (tokens, 1_000);
            assert_eq!(row.charged(all, [0; UNITS], Terms::default()), row.bill(all, [0; UNITS], &[]), "{}: {tokens}", row.model);
        }
    }
}

#[test]
fn every_row_tells_its_page_and_a_month_that_has_begun() {
    let now = jiff::Timestamp::try_from(Clock::system().wall()).expect("a time").strftime("%Y-%m").to_string();
    for row in TABLE.rows(None) {
        let host = row.source.strip_prefix("https://").and_then(|page| page.split('/').next());
        let owner = match row.model.split('-').next() {
            Some("claude") => "platform.claude.com",
            Some("gemini") => "ai.google.dev",
            _ => "developers.openai.com",
        };
        assert_eq!(host, Some(owner), "{}: {}", row.model, row.source);
        let (year, month) = row.as_of.split_once('-').expect("a year and a month");
        let is_month = year.len() == 4 && month.len() == 2 && year.parse::<u16>().is_ok();
        assert!(is_month && month.parse().is_ok_and(|month: u8| (1..=12).contains(&month)), "{}: {}", row.model, row.as_of);
        assert!(row.as_of <= now.as_str(), "{}: read in {}, and this is {now}", row.model, row.as_of);
    }
}
