//! The runbook: who is woken finds what to do.

use crate::page::Page;
use crate::read;

#[test]
fn every_alert_has_its_section_in_the_runbook_and_points_there() {
    let rules = read("config/prometheus/alerts.yml");
    let page = read("docs/operations.md");
    let anchors = Page::parse(&page).anchors();
    let mut alerts = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap().trim();
        let anchor = name.to_lowercase();
        assert!(rule.contains(&format!("runbook: \"docs/operations.md#{anchor}\"")), "{name} points nowhere");
        assert!(anchors.contains(&anchor), "{name} has no section");
        let severity = rule.split("severity: ").nth(1).unwrap().split(' ').next().unwrap();
        let section = page.split(&format!("### {name}\n\n")).nth(1).unwrap();
        assert!(
            section.starts_with(&format!("*{severity}.*")) || section.starts_with(&format!("*{severity}*,")),
            "{name}"
        );
        alerts.push(anchor);
    }
    assert!(alerts.len() > 15, "only {} alerts", alerts.len());
    let more: Vec<_> =
        anchors.iter().filter(|anchor| anchor.starts_with("siglatch") && !alerts.contains(anchor)).collect();
    assert!(more.is_empty(), "there is no alert for {more:?}");
}
