"""Metrics: what is written parses as Prometheus text, counts are exact, memory stays bounded."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kilonova import metrics
from kilonova.metrics import Registry


@pytest.fixture
def registry():
    return Registry()


def parsed(registry):
    families = {}
    for family in text_string_to_metric_families(registry.render().decode()):
        families[family.name] = family
    return families


def samples(family):
    return {(s.name, *sorted(s.labels.items())): s.value for s in family.samples}


def test_everything_parses_back(registry):
    requests = registry.counter("kilonova_http_requests_total", "Requests.\nBy \\ kind", ("method", "route"))
    requests.labels("GET", "/servers").inc()
    requests.labels("GET", "/servers").inc(2)
    requests.labels("PUT", 'a"b\\c\nd').inc()
    registry.gauge("kilonova_hosts", "Hosts.").set(3)
    seconds = registry.histogram("kilonova_request_seconds", "Time.", ("route",), (0.1, 1))
    for value in (0.05, 0.1, 0.5, 7):
        seconds.labels("/x").observe(value)
    families = parsed(registry)
    counted = samples(families["kilonova_http_requests"])
    name = "kilonova_http_requests_total"
    assert counted[name, ("method", "GET"), ("route", "/servers")] == 3
    assert counted[name, ("method", "PUT"), ("route", 'a"b\\c\nd')] == 1
    assert families["kilonova_http_requests"].documentation == "Requests.\nBy \\ kind"
    assert samples(families["kilonova_hosts"])["kilonova_hosts",] == 3
    spread = samples(families["kilonova_request_seconds"])
    name, route = "kilonova_request_seconds", ("route", "/x")
    assert spread[f"{name}_bucket", ("le", "0.1"), route] == 2
    assert spread[f"{name}_bucket", ("le", "1.0"), route] == 3
    assert spread[f"{name}_bucket", ("le", "+Inf"), route] == 4
    assert spread[f"{name}_count", route] == 4
    assert spread[f"{name}_sum", route] == pytest.approx(7.65)
    assert families["process_cpu_seconds"].type == "counter"
    assert samples(families["process_resident_memory_bytes"])["process_resident_memory_bytes",] > 1e6


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_label_value_is_well_formed(one, two):
    registry = Registry()
    registry.counter("x_total", one, ("a", "b")).labels(one, two).inc()
    assert samples(parsed(registry)["x"])


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0, -1.5, 1e300, 12345678901234567890])
def test_numbers(registry, value):
    registry.gauge("g", "A number.").set(value)
    got = samples(parsed(registry)["g"])["g",]
    assert got == value or (math.isnan(got) and math.isnan(value))


def test_gauges_move_and_follow(registry):
    gauge = registry.gauge("g", "", ("pool",))
    gauge.labels("a").inc(5)
    gauge.labels("a").dec()
    gauge.labels("b").follow(lambda: 7)
    gauge.labels("c").follow(lambda: 1 / 0)
    got = samples(parsed(registry)["g"])
    assert got["g", ("pool", "a")] == 4
    assert got["g", ("pool", "b")] == 7
    assert math.isnan(got["g", ("pool", "c")])
    gauge.remove("b")
    assert ("g", ("pool", "b")) not in samples(parsed(registry)["g"])


def test_the_same_name_is_the_same_metric(registry):
    assert registry.counter("a_total", "x", ("l",)) is registry.counter("a_total", "y", ("l",))
    for wrong in (lambda: registry.gauge("a_total", ""), lambda: registry.counter("a_total", "", ("m",))):
        with pytest.raises(ValueError, match="exists"):
            wrong()


@pytest.mark.parametrize(("name", "labels"), [("no-dash", ()), ("", ()), ("a", ("le",)), ("a", ("__x",)), ("1", ())])
def test_wrong_names_are_refused(registry, name, labels):
    with pytest.raises(ValueError, match="name"):
        registry.gauge(name, "", labels)


def test_counters_end_in_total_and_labels_are_counted(registry):
    with pytest.raises(ValueError, match="_total"):
        registry.counter("a", "")
    with pytest.raises(ValueError, match="labels"):
        registry.counter("a_total", "", ("x",)).labels("1", "2")


def test_label_values_do_not_fill_memory(registry):
    counter = registry.counter("a_total", "", ("x",))
    for number in range(metrics.MAX_CHILDREN * 2):
        counter.labels(str(number)).inc()
    assert len(counter.children()) == metrics.MAX_CHILDREN + 1
    assert counter.labels("other").value == metrics.MAX_CHILDREN


def test_threads_lose_nothing(registry):
    counter, spread = registry.counter("a_total", ""), registry.histogram("h", "")

    def bump():
        for _ in range(50_000):
            counter.inc()
            spread.observe(0.2)

    threads = [threading.Thread(target=bump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(parsed(registry)["a"])["a_total",] == 200_000
    assert samples(parsed(registry)["h"])["h_count",] == 200_000


def test_the_default_registry_renders():
    metrics.counter("kilonova_test_total", "For this test.").inc()
    assert b"kilonova_test_total 1" in metrics.render()
