"""Where settings come from, which source wins, and what is said about wrong ones."""

import subprocess
import sys

import pytest

from kilonova.config import ConfigError, load
from kilonova.config.settings import SECTIONS


@pytest.fixture
def write(tmp_path):
    def writer(text, name="nova.conf"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return writer


def problems(*args):
    with pytest.raises(ConfigError) as refused:
        load(*args)
    return refused.value.problems


def test_defaults_need_nothing():
    settings = load()
    assert settings.quota.instances == 10
    assert settings.libvirt.virt_type == "auto"
    assert settings.default.transport_url.kind == "memory"
    assert not settings.warnings
    assert settings.source("quota", "instances") == "default"


def test_each_source_beats_the_one_before(write):
    first = write("[quota]\ninstances = 1\ncores = 1\nram = 1\nkey_pairs = 1\n")
    second = write('[quota]\ncores = 2\nram = 2\nkey_pairs = 2\n[kilonova]\nregion = "x"\n', "kilonova.toml")
    env = {"KILONOVA_QUOTA__RAM": "3", "KILONOVA_QUOTA__KEY_PAIRS": "3", "KILONOVA_PORT": "9000", "OTHER": "1"}
    settings = load([first, second], env, {"quota.key_pairs": 4, "sim_hosts": 5})
    quota = settings.quota
    assert (quota.instances, quota.cores, quota.ram, quota.key_pairs) == (1, 2, 3, 4)
    assert (settings.kilonova.port, settings.kilonova.sim_hosts, settings.kilonova.region) == (9000, 5, "x")
    assert settings.source("quota", "instances") == f"{first}:2"
    assert settings.source("quota", "cores") == f"{second}:2"
    assert settings.source("quota", "ram") == "KILONOVA_QUOTA__RAM"
    assert settings.source("quota", "key_pairs") == "override"


def test_a_nova_conf_as_operators_have_it(write):
    path = write(
        """
# comment
[DEFAULT]
my_ip = 10.0.0.5
state_path=/var/lib/nova
instances_path = $state_path/instances
transport_url = rabbit://nova:hush@mq1:5672,nova:hush@mq2:5672/vh
reserved_host_memory_mb =
    1024
default_schedule_zone =
force_config_drive: Yes
; old names
quota_instances = 33
osapi_compute_listen_port = 8780

[libvirt]
virt_type = "kvm"
cpu-models = IvyBridge, Haswell,
hw_machine_type = x86_64=q35

[vnc]
novncproxy_base_url = http://${my_ip}:6080/?a=$$b
server_listen = $DEFAULT.my_ip

[glance]
api_servers = http://a:9292,http://b:9292
"""
    )
    settings = load([path])
    assert settings.default.instances_path == "/var/lib/nova/instances"
    assert settings.default.transport_url.hosts == (("mq1", 5672), ("mq2", 5672))
    assert settings.default.reserved_host_memory_mb == 1024
    assert settings.default.default_schedule_zone is None
    assert settings.default.force_config_drive is True
    assert settings.quota.instances == 33
    assert settings.kilonova.port == 8780
    assert settings.libvirt.virt_type == "kvm"
    assert settings.libvirt.cpu_models == ("IvyBridge", "Haswell")
    assert settings.vnc.novncproxy_base_url == "http://10.0.0.5:6080/?a=$b"
    assert settings.vnc.server_listen == "10.0.0.5"
    assert settings.glance.external and not settings.cinder.external
    assert settings.warnings == ()


def test_toml_has_types_of_its_own(write):
    path = write(
        'host = "h1"\n[libvirt]\ncpu_models = ["A", "B"]\n[filter_scheduler]\nram_weight_multiplier = 2\n', "k.toml"
    )
    settings = load([path])
    assert settings.default.host == "h1"
    assert settings.source("DEFAULT", "host") == f"{path}:1"
    assert settings.libvirt.cpu_models == ("A", "B")
    assert settings.filter_scheduler.ram_weight_multiplier == 2.0


def test_my_ip_is_found_when_it_is_referred_to(write):
    assert load([write("[vnc]\nserver_listen = $my_ip\n")]).vnc.server_listen.count(".") == 3


def test_every_problem_is_told_with_line_and_remedy(write):
    path = write(
        "[libvirt]\nvirt_type = xen\n[quota]\ncores = many\nram = -2\n[vnc]\nenabled = maybe\n"
        "novncproxy_port = 70000\nserver_listen = $nosuch\n[database]\nconnection = oracle://a:hush@b/c\n"
    )
    told = problems([path])
    assert [line.split(": ")[0] for line in told] == [f"{path}:{n}" for n in (2, 4, 5, 7, 8, 9, 11)]
    text = "\n".join(told)
    assert "needs one of auto, kvm, qemu" in text
    assert "whole number of at least -1" in text
    assert "from 0 to 65535" in text
    assert "needs true or false" in text
    assert "$nosuch" in text
    assert "hush" not in text


def test_passwords_are_in_no_message(write):
    path = write("[service_user]\npassword = abc$secretpart\n[keystone_authtoken]\npassword = x\n")
    assert "secretpart" not in "".join(problems([path]))
    settings = load(
        [write("[keystone_authtoken]\npassword = hush$$hush\n[DEFAULT]\ntransport_url=rabbit://u:hush@h/\n")]
    )
    assert settings.keystone_authtoken.password.reveal() == "hush$hush"
    assert "hush" not in repr(settings)
    assert not [row for row in settings.explain() if "hush" in str(row)]


def test_unknown_options_warn_and_meaningless_ones_are_summed_up(write):
    path = write(
        "[DEFAULT]\nrootwrap_config = x\nenabled_apis = y\nhosst = z\n[libvirt]\nrbd_user = q\n[stray]\na = 1\n"
        "[DEFAULT]\nvirt_type = kvm\n"
    )
    unknown = load([path]).warnings
    assert unknown[-1].startswith("3 Nova options have no meaning here: ")
    assert len(unknown) == 4
    assert f"{path}:4: [DEFAULT] hosst is unknown" in unknown[0] and "[DEFAULT] host?" in unknown[0]
    assert "[stray] a" in unknown[1]
    assert "[libvirt] virt_type?" in unknown[2]


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("host = x\n", "nova.conf", 1),
        ("[DEFAULT]\nhost\n", "nova.conf", 2),
        ("[DEFAULT\nhost = x\n", "nova.conf", 1),
        ("[quota]\ninstances = = 3\n", "k.toml", 2),
    ],
)
def test_files_that_are_neither(write, text, name, line):
    path = write(text, name)
    assert problems([path])[0].startswith(f"{path}:{line}: ")


def test_missing_unreadable_and_circular(write, tmp_path):
    assert "no such file" in problems([tmp_path / "absent"])[0]
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe")
    assert "cannot be read" in problems([tmp_path / "binary.conf"])[0]
    assert "itself" in problems([write("[DEFAULT]\nmy_ip = $host\nhost = $my_ip\n")])[0]


def test_a_directory_is_read_in_order(write, tmp_path):
    write("[quota]\ncores = 1\n", "10.conf")
    write("[quota]\ncores = 2\n", "20.toml")
    write("nonsense", "readme.txt")
    assert load([tmp_path]).quota.cores == 2


def test_debug_and_log_file_reach_the_log_section(write):
    path = write("[DEFAULT]\ndebug = true\nlog_dir = /var/log\nlog_file = n.log\nuse_json = 1\n")
    log = load([path]).log
    assert (log.level, log.file, log.json) == ("debug", "/var/log/n.log", True)
    assert load([path], None, {"log.level": "error"}).log.level == "error"


def test_everything_is_explained_once():
    rows = [(row.section, row.option) for row in load().explain()]
    assert len(rows) == len(set(rows)) > 200
    assert {row[0] for row in rows} == {"DEFAULT" if s == "default" else s for s in SECTIONS}


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        load().quota.cores = 3


def test_a_start_imports_nothing_heavy_and_reads_no_list_of_options():
    heavy = "yaml", "tomllib", "difflib", "sqlalchemy", "prometheus_client"
    code = (
        "import sys; from kilonova import config, log, metrics, watchdog, pools, processes; config.load();"
        f"metrics.render(); sys.exit(' '.join(set({heavy}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
