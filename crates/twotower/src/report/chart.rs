use anyhow::anyhow;
use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours of the light theme; the style sheet replaces them by value in the dark theme.
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
const FIRST: RGBColor = RGBColor(0x0B, 0x61, 0x9A);
const SECOND: RGBColor = RGBColor(0xB8, 0x5A, 0x00);

/// Rules that replace the four colours on a dark page.
pub(super) const DARK_RULES: &str = "\
svg [fill='#222222']{fill:#e6e6e6}svg [stroke='#222222']{stroke:#e6e6e6}\
svg [stroke='#DDDDDD']{stroke:#444}\
svg [fill='#0B619A']{fill:#6db8ea}svg [stroke='#0B619A']{stroke:#6db8ea}\
svg [fill='#B85A00']{fill:#f0a050}svg [stroke='#B85A00']{stroke:#f0a050}";

const FONT: (&str, i32) = ("sans-serif", 14);

/// Text alternative of a chart.
pub(super) struct Description<'a> {
    /// Short name, also the caption.
    pub(crate) title: &'a str,
    /// What the chart shows, in a sentence.
    pub(crate) text: &'a str,
}

/// A curve over epochs, with a mark at the epoch that was kept.
pub(super) fn curve(
    description: &Description<'_>,
    points: &[(f64, f64)],
    kept: Option<f64>,
) -> anyhow::Result<Markup> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (560, 260)).into_drawing_area();
        let (x, y) = (
            bounds(points.iter().map(|p| p.0)),
            bounds(points.iter().map(|p| p.1)),
        );
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(FONT.into_font().color(&INK))
            .x_labels(points.len().min(10))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .x_desc("epoch")
            .y_labels(6)
            .y_label_formatter(&|y| format!("{y:.3}"))
            .draw()?;
        chart.draw_series(LineSeries::new(
            points.iter().copied(),
            FIRST.stroke_width(2),
        ))?;
        chart.draw_series(points.iter().map(|&point| {
            let radius = if Some(point.0) == kept { 6 } else { 3 };
            Circle::new(point, radius, FIRST.filled())
        }))?;
        area.present()?;
    }
    figure(description, &svg)
}

/// Two bars between 0 and 1 for each name, the first above the second.
pub(super) fn bars(
    description: &Description<'_>,
    series: [&str; 2],
    rows: &[(&str, [f64; 2])],
) -> anyhow::Result<Markup> {
    const LEFT: i32 = 110;
    const WIDTH: f64 = 380.0;
    const ROW: i32 = 46;
    const BAR: i32 = 16;
    let height = rows.len() as i32 * ROW + 34;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (560, height as u32)).into_drawing_area();
        let text = |text: &str, x: i32, y: i32, side: HPos| {
            let style = FONT
                .into_font()
                .color(&INK)
                .pos(Pos::new(side, VPos::Center));
            area.draw(&Text::new(text.to_owned(), (x, y), style))
        };
        for (n, (name, values)) in rows.iter().enumerate() {
            let top = n as i32 * ROW + 6;
            text(name, LEFT - 8, top + BAR, HPos::Right)?;
            for (place, (&value, colour)) in values.iter().zip([FIRST, SECOND]).enumerate() {
                let y = top + place as i32 * BAR;
                let end = LEFT + (value.clamp(0.0, 1.0) * WIDTH).round() as i32;
                let bar = [(LEFT, y), (end, y + BAR - 2)];
                area.draw(&Rectangle::new(bar, colour.filled()))?;
                text(&format!("{value:.3}"), end + 6, y + BAR / 2 - 1, HPos::Left)?;
            }
        }
        area.draw(&PathElement::new(vec![(LEFT, 0), (LEFT, height - 34)], INK))?;
        for (place, (name, colour)) in series.into_iter().zip([FIRST, SECOND]).enumerate() {
            let (x, y) = (LEFT + place as i32 * 200, height - 16);
            area.draw(&Rectangle::new(
                [(x, y - 6), (x + 12, y + 6)],
                colour.filled(),
            ))?;
            text(name, x + 18, y, HPos::Left)?;
        }
        area.present()?;
    }
    figure(description, &svg)
}

/// The range of `values` with a small margin, never empty.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let air = if high > low {
        (high - low) * 0.06
    } else {
        high.abs().max(1.0) * 0.1
    };
    (low - air, high + air)
}

/// Puts title and description first inside the SVG, where assistive technology looks for them.
fn figure(description: &Description<'_>, svg: &str) -> anyhow::Result<Markup> {
    let (_, rest) = svg
        .split_once("<svg ")
        .ok_or_else(|| anyhow!("the chart `{}` is no picture", description.title))?;
    let (attributes, body) = rest
        .split_once('>')
        .ok_or_else(|| anyhow!("the chart `{}` is no picture", description.title))?;
    Ok(html! {
        figure {
            (PreEscaped(format!("<svg role=\"img\" {attributes}>")))
            title { (description.title) }
            desc { (description.text) }
            (PreEscaped(body))
            figcaption { (description.title) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_says_what_it_shows() {
        let description = Description {
            title: "Loss <nats>",
            text: "It falls.",
        };
        let svg = curve(&description, &[(1.0, 3.0), (2.0, 2.0)], Some(2.0))
            .unwrap()
            .into_string();
        assert!(svg.contains("<title>Loss &lt;nats&gt;</title>"));
        assert!(svg.contains("<desc>It falls.</desc>"));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    #[test]
    fn one_point_and_equal_points_have_a_range() {
        assert_eq!(bounds(std::iter::empty()), (0.0, 1.0));
        let (low, high) = bounds([2.0, 2.0].into_iter());
        assert!(low < 2.0 && high > 2.0);
        let description = Description {
            title: "",
            text: "",
        };
        assert!(curve(&description, &[(1.0, 3.0)], None).is_ok());
        assert!(curve(&description, &[], None).is_ok());
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let description = Description {
            title: "t",
            text: "d",
        };
        let svg = bars(&description, ["a", "b"], &[("x", [0.5, 1.0])])
            .unwrap()
            .into_string();
        assert!(svg.contains("width=\"190\"") && svg.contains("width=\"380\""));
    }
}
