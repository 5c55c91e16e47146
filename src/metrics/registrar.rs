//! Makes metrics and registers them: the only place that names `sitegate_`.
//!
//! A metric with labels, also one with no label at all (`&[]`), is exported only once a series of
//! it was set. A gateway without a store must not export a zero that suggests one.

use std::collections::BTreeSet;

use prometheus::core::Collector;
use prometheus::{Error, IntGauge, IntGaugeVec, Opts, Registry};
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};

/// A registry that is being filled.
#[derive(Default)]
pub(super) struct Registrar {
    registry: Registry,
    names: BTreeSet<String>,
}

impl Registrar {
    /// The registry, and the names of all that [`Registrar`] registered in it.
    pub(super) fn finish(self) -> (Registry, BTreeSet<String>) {
        (self.registry, self.names)
    }

    /// Registers a collector of several metrics that have names of their own.
    pub(super) fn collector(&mut self, collector: impl Collector + 'static) -> Result<(), Error> {
        self.registry.register(Box::new(collector))
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.registered(IntCounter::with_opts(opts(name, help))?)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, Error> {
        self.registered(IntCounterVec::new(opts(name, help), labels)?)
    }

    /// A gauge of whole units.
    pub(super) fn int_gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.registered(IntGauge::with_opts(opts(name, help))?)
    }

    /// Gauges of whole units.
    pub(super) fn int_gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, Error> {
        self.registered(IntGaugeVec::new(opts(name, help), labels)?)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.registered(Gauge::with_opts(opts(name, help))?)
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, Error> {
        self.registered(GaugeVec::new(opts(name, help), labels)?)
    }

    /// Histograms of seconds.
    pub(super) fn durations(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, Error> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.registered(HistogramVec::new(opts, labels)?)
    }

    fn registered<C: Collector + Clone + 'static>(&mut self, metric: C) -> Result<C, Error> {
        self.names.extend(metric.desc().into_iter().map(|desc| desc.fq_name.clone()));
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("sitegate")
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn text(registrar: Registrar) -> String {
        TextEncoder::new().encode_to_string(&registrar.finish().0.gather()).unwrap()
    }

    #[test]
    fn a_metric_without_labels_is_exported_once_it_is_set() {
        let mut registrar = Registrar::default();
        let gauges = registrar.int_gauges("x", "An x.", &[]).unwrap();
        let none: &[&str] = &[];
        gauges.with_label_values(none).set(7);
        assert!(text(registrar).contains("\nsitegate_x 7\n"));
        let mut registrar = Registrar::default();
        registrar.int_gauges("x", "An x.", &[]).unwrap();
        assert_eq!(text(registrar), "");
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut registrar = Registrar::default();
        registrar.counter("x_total", "An x.").unwrap();
        assert!(registrar.gauge("x_total", "Another.").is_err());
    }

    #[test]
    fn names_include_metrics_without_a_series() {
        let mut registrar = Registrar::default();
        registrar.counters("x_total", "An x.", &["label"]).unwrap();
        assert_eq!(registrar.finish().1, BTreeSet::from(["sitegate_x_total".to_owned()]));
    }
}
