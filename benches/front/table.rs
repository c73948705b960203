//! The figures as a table of Markdown, with the ratio of ours to each of the others'.

use super::servers::Server;
use super::{Figures, Measured, What};

/// Prints it. The first of the servers is ours.
pub(crate) fn print(servers: &[Server], measured: &[Measured]) {
    let names = || servers.iter().map(|server| server.name.word());
    let mut head = "| protocol | answer | connections x streams |".to_owned();
    head.extend(names().map(|name| format!(" {name} CPU |")));
    head.extend(names().skip(1).map(|name| format!(" eyot/{name} |")));
    head.extend(names().map(|name| format!(" {name} rate |")));
    println!("{head}\n|{}", "---|".repeat(head.matches('|').count() - 1));
    for (row, rounds) in measured {
        let (cpu_digits, rate_digits) = if row.what == What::Small { (1, 0) } else { (2, 2) };
        let least: Vec<_> = rounds.iter().map(|rounds| least(rounds)).collect();
        let mut line = format!("| {} |", row.words());
        line.extend(least.iter().map(|least| cell(least.map(|least| least.cpu), cpu_digits)));
        line.extend(rounds[1..].iter().map(|theirs| ratio(&rounds[0], theirs)));
        line.extend(least.iter().map(|least| cell(least.map(|least| least.rate), rate_digits)));
        println!("{line}");
    }
}

/// The round of the least CPU: what disturbs only ever adds.
fn least(rounds: &[Figures]) -> Option<Figures> {
    rounds.iter().copied().min_by(|one, other| one.cpu.total_cmp(&other.cpu))
}

fn cell(figure: Option<f64>, digits: usize) -> String {
    figure.map_or(" - |".to_owned(), |figure| format!(" {figure:.digits$} |"))
}

/// The ratio of the least, and that of each round from the lowest to the highest.
fn ratio(ours: &[Figures], theirs: &[Figures]) -> String {
    let Some((our, their)) = least(ours).zip(least(theirs)) else { return " - |".to_owned() };
    let each = ours.iter().zip(theirs).map(|(our, their)| our.cpu / their.cpu);
    let (low, high) = each.fold((f64::MAX, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    format!(" **{:.2}** ({low:.2} to {high:.2}) |", our.cpu / their.cpu)
}
