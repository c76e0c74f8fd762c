//! The page around the dumps: its head, its style and script, and the pieces that sections share.
//!
//! All that the page needs is in it: no request leaves it, and its policy forbids any. What comes
//! from a dump is escaped by `maud`, or by [`json`] where it travels as data.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use crate::chart;

/// Forbids everything but the style and script in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'";
const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// What is drawn of one dump.
#[derive(Debug)]
pub struct Section {
    /// What kind of dump it is, in a word.
    pub what: &'static str,
    /// Counts and times, each in a few words.
    pub facts: Vec<String>,
    /// The drawing.
    pub body: Markup,
}

/// The whole page.
pub fn document(title: &str, about: &str, sections: &[(String, Section)]) -> Markup {
    let anchor = |nth: usize| format!("dump-{nth}");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(chart::ink_styles())) (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the data" }
                header {
                    h1 { (title) }
                    @if !about.is_empty() { p { (about) } }
                    @if sections.len() > 1 {
                        nav aria-label="Dumps" {
                            ul {
                                @for (nth, (name, section)) in sections.iter().enumerate() {
                                    li { a href={ "#" (anchor(nth)) } { (name) } " " small { (section.what) } }
                                }
                            }
                        }
                    }
                    p.keys {
                        "Keys: " kbd { "Tab" } " moves, " kbd { "/" } " filters, "
                        kbd { "↑" } kbd { "↓" } kbd { "←" } kbd { "→" } " move within rows, spans and frames, "
                        kbd { "Enter" } " opens, " kbd { "Esc" } " closes."
                    }
                }
                main id="main" tabindex="-1" {
                    @for (nth, (name, section)) in sections.iter().enumerate() {
                        section.dump id=(anchor(nth)) aria-labelledby={ (anchor(nth)) "-title" } {
                            h2 id={ (anchor(nth)) "-title" } { span.name { (name) } }
                            p.facts {
                                span.badge { (section.what) }
                                @for fact in &section.facts { " " span { (fact) } }
                            }
                            (section.body)
                        }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// A table that scrolls within itself where the screen is narrower.
pub fn table(label: &str, rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table { (rows) }
        }
    }
}

/// A box whose text the page's script looks for; `target` says among what.
pub fn filter(hint: &str, target: &str) -> Markup {
    html! {
        p.filter {
            input type="search" data-filter=(target) placeholder=(hint) aria-label=(hint)
                autocomplete="off" spellcheck="false";
            output.matched aria-live="polite" {}
        }
    }
}

/// JSON that can stand in a `script` element: no `<` in it could end the element or begin another.
pub fn json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_a_page_has_no_character_that_begins_a_tag() {
        let text = json(&serde_json::json!({ "a": "</script><!--" }));
        assert!(!text.contains('<'), "{text}");
        let back: Value = serde_json::from_str(&text).expect("still JSON");
        assert_eq!(back["a"], "</script><!--");
    }

    #[test]
    fn style_and_script_cannot_end_their_own_elements() {
        assert!(!STYLE.contains("</"), "the style sheet");
        assert!(!SCRIPT.contains("</"), "the script");
        assert!(!SCRIPT.contains("<!--"), "the script");
    }
}
