//! Plots of how unevenly servers are utilised over time.

use std::path::Path;

use anyhow::Context as _;
use lb_steering::Steering;
use plotters::prelude::*;

use crate::{
    policy::Policy,
    report::LIVES,
    scenario::{Case, Event},
    simulation::{Quantisation, play},
};

const SIZE: (u32, u32) = (720, 320);
/// Points per line, which keeps the files small.
const POINTS: usize = 160;

/// Writes one plot for each life of connections.
pub fn all(directory: &Path, settings: &Steering) -> anyhow::Result<()> {
    for life in LIVES {
        let file = directory.join(format!("start-{life}s.svg"));
        draw(&file, settings, life).with_context(|| format!("drawing {}", file.display()))?;
    }
    Ok(())
}

fn draw(file: &Path, settings: &Steering, life: f64) -> anyhow::Result<()> {
    let case = Case::plain(Event::Cold, life);
    let shown = case.periods().min(60 + (1.5 * life / 5.0) as usize);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(32)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..shown as f64, 1.0..3.6)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(format!("periods of 5 s; connections live {life} s"))
        .y_desc("highest / mean utilisation")
        .draw()?;
    for (policy, colour) in [
        (Policy::Equal, RGBColor(150, 150, 150)),
        (Policy::Naive, RGBColor(200, 60, 40)),
        (Policy::Oracle, RGBColor(60, 140, 60)),
        (Policy::Capacity, RGBColor(40, 80, 200)),
    ] {
        let trace = play(&case, policy, settings, 1, Quantisation::Rounded);
        let every = shown.div_ceil(POINTS);
        let points = trace.uneven.iter().take(shown).enumerate().step_by(every);
        chart
            .draw_series(LineSeries::new(
                points.map(|(period, uneven)| (period as f64, uneven.min(3.6))),
                colour.stroke_width(2),
            ))?
            .label(policy.name())
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
