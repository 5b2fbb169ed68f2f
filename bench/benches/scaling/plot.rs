//! Plots of instances over time.

use std::{fs, path::Path};

use anyhow::Context as _;
use lb_bench::scaling::{laws::Law, play::play, pool::Knowledge, trace::Trace};
use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 320);
/// Points per line, which keeps the files small.
const POINTS: usize = 240;
/// Seconds from an order until the instance serves.
const START_UP: f64 = 20.0;

/// Writes one plot for each of some traces.
pub fn all(directory: &Path, seed: u64) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    for name in ["step", "spike", "ramp", "day", "square"] {
        let file = directory.join(format!("{name}.svg"));
        draw(&file, &Trace::of(name), seed)
            .with_context(|| format!("drawing {}", file.display()))?;
    }
    Ok(())
}

fn draw(file: &Path, trace: &Trace, seed: u64) -> anyhow::Result<()> {
    let plays: Vec<_> = [
        (Law::Ours, RGBColor(40, 80, 200)),
        (Law::Hpa, RGBColor(200, 60, 40)),
        (Law::Kpa, RGBColor(60, 140, 60)),
    ]
    .into_iter()
    .map(|(law, colour)| {
        let outcome = play(trace, law, START_UP, Knowledge::Learned, seed);
        (law, colour, outcome.seconds)
    })
    .collect();
    let seconds = &plays[0].2;
    let most = plays
        .iter()
        .flat_map(|(_, _, seconds)| seconds.iter().map(|second| f64::from(second.1)))
        .fold(1.0, f64::max);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(32)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..seconds.len() as f64, 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(format!("seconds; {}, start-up {START_UP} s", trace.name))
        .y_desc("instances that serve")
        .draw()?;
    let every = seconds.len().div_ceil(POINTS);
    let line = |values: Vec<f64>| -> Vec<(f64, f64)> {
        let numbered = values.into_iter().enumerate().step_by(every);
        numbered
            .map(|(second, value)| (second as f64, value))
            .collect()
    };
    let grey = RGBColor(150, 150, 150);
    let mut lines = vec![(
        "needed".to_owned(),
        grey,
        line(seconds.iter().map(|second| second.0).collect()),
    )];
    for (law, colour, seconds) in &plays {
        let serving = seconds.iter().map(|second| f64::from(second.1)).collect();
        lines.push((law.name().to_owned(), *colour, line(serving)));
    }
    for (name, colour, points) in lines {
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
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
