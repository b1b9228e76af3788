use super::random::{pick, skewed};
use super::words::{self, Word};
use rand::RngExt;
use rand_pcg::Pcg64;

/// What the texts of a video are about.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) genre: &'a Word,
    pub(super) topic: &'a Word,
    pub(super) place: &'a Word,
    pub(super) mood: Option<&'a Word>,
    pub(super) cast: &'a [String],
}

impl Subject<'_> {
    pub(super) fn title(&self, random: &mut Pcg64, japanese: bool) -> String {
        let adjective = pick(random, &words::ADJECTIVES);
        let format = pick(random, &words::FORMATS);
        let episode = 1 + skewed(random, 24);
        let style = random.random_range(0..4);
        if japanese {
            let (adjective, topic, place) = (adjective.ja, self.topic.ja, self.place.ja);
            let fill = |text: &str| format.ja.replace("{}", text);
            return match style {
                0 => format!("{place}の{topic}"),
                1 => format!("{adjective}{topic} 第{episode}回"),
                2 => format!("{place}：{}", fill(topic)),
                _ => fill(&format!("{adjective}{topic}")),
            };
        }
        let (adjective, topic, place) = (adjective.en, self.topic.en, self.place.en);
        let fill = |text: &str| format.en.replace("{}", text);
        capitalised(&match style {
            0 => format!("{topic} of {place}"),
            1 => format!("{adjective} {topic}, part {episode}"),
            2 => format!("{place}: {}", fill(topic)),
            _ => fill(&format!("{adjective} {topic}")),
        })
    }

    pub(super) fn description(&self, japanese: bool) -> String {
        let (topic, place, genre) = (self.topic, self.place, self.genre);
        let cast = (!self.cast.is_empty()).then_some(self.cast);
        if japanese {
            let cast = cast.map(|cast| format!("出演は{}。", cast.join("、")));
            let mood = self.mood.map(|mood| format!("{}。", mood.ja));
            return format!(
                "{}で出会った{}。{}の番組です。{}{}",
                place.ja,
                topic.ja,
                genre.ja,
                cast.unwrap_or_default(),
                mood.unwrap_or_default()
            );
        }
        let mood = self.mood.map(|mood| format!(", {}", mood.en));
        let cast = cast.map(|cast| format!(" With {}.", cast.join(" and ")));
        capitalised(&format!(
            "{} in {}. Filed under {}{}.{}",
            topic.en,
            place.en,
            genre.en,
            mood.unwrap_or_default(),
            cast.unwrap_or_default()
        ))
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
