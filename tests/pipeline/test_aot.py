"""Promise: `aot` counts what the compiler says, loops unrolled, and tells in one line what it cannot compile."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from step_audio_r1.commands import aot as command
from step_audio_r1.parallel.hlo import Collective, program_cost

# A loop of 3 around a loop of 2 (no known trip count: its condition says), a fused collective in two parts, a kernel.
HLO = """HloModule jit_step, is_scheduled=true

%fused_computation.1 (p0: bf16[4,8]) -> bf16[8,8] {
  %p0 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[8,8]{1,0:T(8,128)(2,1)} all-gather(%p0), channel_id=5, frontend_attributes={chain_id="0"}
}

%async_collective_fusion.2 (p1: bf16[4,8]) -> bf16[8,8] {
  %p1 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %inner = f32[8]{0} add(%p1, %p1), backend_config={"window_config":{"estimated_cycles":"999"}}
  ROOT %all-gather.2 = bf16[8,8]{1,0:T(8,128)(2,1)} all-gather(%p1), channel_id=5, frontend_attributes={chain_id="0"}
}

%inner_condition (c: (s32[], f32[8])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %limit = s32[]{:T(128)} constant(2)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%inner_body (b: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %k = f32[8]{0:T(128)S(1)} custom-call(%b), custom_call_target="tpu_custom_call", backend_config={"flops":"70"}
  ROOT %f = (s32[]{:T(128)}, f32[8]{0:T(128)}) fusion(%k), calls=%x, backend_config={"estimated_cycles":"10"}
}

%outer_condition (oc: (s32[], f32[8])) -> pred[] {
  %oc = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  ROOT %lt.2 = pred[]{:T(512)} compare(%oc, %oc), direction=LT
}

%outer_body (ob: (s32[], f32[8])) -> (s32[], f32[8]) {
  %ob = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %start = (bf16[4,8]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) fusion(%ob), kind=kCustom, calls=%fused_computation.1
  %part = bf16[8,8]{1,0} fusion(%start), calls=%async_collective_fusion.2, backend_config={"estimated_cycles":"100"}
  ROOT %w = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%ob), condition=%inner_condition, body=%inner_body
}

%all-reduce-scatter.7 (q: f32[16,8]) -> f32[8,8] {
  %q = f32[16,8]{1,0} parameter(0)
  %all-reduce.3 = f32[16,8]{1,0} all-reduce(%q), channel_id=9, to_apply=%add
  ROOT %slice = f32[8,8]{1,0} dynamic-slice(%all-reduce.3, %q)
}

ENTRY %main.5_spmd (param: f32[8]) -> f32[8] {
  %param = f32[8]{0:T(128)} parameter(0)
  %copy = f32[8]{0:T(128)} copy(%param), backend_config={"window_config":{"estimated_cycles":"1000"}}
  %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%copy, %copy)
  %loop = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%t), condition=%outer_condition, body=%outer_body, \
backend_config={"known_trip_count":{"n":"3"}}
  %ps = (f32[4,2]{1,0}, f32[4,2]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%copy), channel_id=8
  %pd = f32[4,2]{1,0} collective-permute-done(%ps)
  %ar = (f32[2]{0}, pred[3]{0}) all-reduce(%copy, %copy), channel_id=10, to_apply=%add
  ROOT %rs = f32[8,8]{1,0} fusion(%ar), kind=kCustom, calls=%all-reduce-scatter.7, metadata={op_name="x"}
}
"""


def test_cycles_kernels_and_collectives_count_as_often_as_they_run():
    cost = program_cost(HLO)
    assert cost.cycles == 1000 + 3 * (100 + 2 * 10)  # what a fusion holds is in the fusion's own estimate
    assert (cost.kernel_calls, cost.kernel_flops) == (6, 420)
    assert cost.collectives == (
        Collective("all-gather", 3, 3 * 128),  # two parts of one asynchronous collective
        Collective("all-reduce", 1, 11),
        Collective("collective-permute", 1, 32),
        Collective("reduce-scatter", 1, 512),
    )


def test_a_kernel_without_estimate_is_not_taken_for_free():
    cost = program_cost(HLO.replace('backend_config={"flops":"70"}', "metadata={}"))
    assert (cost.kernel_calls, cost.kernel_flops) == (6, None)


KEYS = [
    *("step", "topology", "chips", "mesh", "argument_gib", "temp_gib", "peak_gib", "hbm_gib", "fits"),
    *("fused_cycles", "clock_ghz", "fused_s", "kernel_calls", "kernel_flops", "collectives"),
    *("estimated_step_s", "tokens_per_s_per_chip", "compile_s"),
]


# CI installs it (the extra aot); nobody else needs it to run the other tests.
needs_the_tpu_compiler = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra aot")


def _run(*flags: str) -> subprocess.CompletedProcess:
    """The command in a process of its own: libtpu must find its environment before JAX is imported."""
    command = [sys.executable, "-m", "step_audio_r1.commands.aot", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "XLA_FLAGS": ""})


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--config=nope",), "--config=nope: not a model of configs/models.py, which has miniature, "),
        (("--config=none.py",), "--config=none.py: no such file"),
        (("--config=miniature", "--rows=0"), "--rows=0: at least 1"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the command prepares its process for libtpu
    assert command.main([*flags, "--topology=v5e:2x2", "--step=sft"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@needs_the_tpu_compiler
@pytest.mark.slow
@pytest.mark.parametrize("step", ["sft", "prefill", "decode"])
def test_the_miniature_compiles_for_a_tpu(step, tmp_path):
    flags = ("--config=miniature", "--topology=v5e:2x2", f"--step={step}", "--rows=8", "--tokens=256", "--tensor=2")
    done = _run(*flags, f"--hlo={tmp_path / 'step.hlo'}", "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert list(row) == KEYS
    assert (row["chips"], row["mesh"]) == (4, {"data": 1, "fsdp": 2, "tensor": 2})
    assert row["fits"] and 0 < row["argument_gib"] < row["peak_gib"] < 0.2
    assert row["fused_cycles"] > 1e5 and {c["kind"] for c in row["collectives"]} >= {"all-gather", "all-reduce"}
    assert "ENTRY" in (tmp_path / "step.hlo").read_text()


@needs_the_tpu_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, message",
    [
        (("--topology=v5p-128", "--step=sft"), "unknown family 'v5p-128'; examples: v5e:8x8, v5p:4x4x4"),
        (("--topology=v5e:3x3", "--step=sft"), "no such slice"),
        (("--topology=v5e:2x2", "--step=backward"), "expected one of sft, ppo_actor"),
        (("--topology=v5e:2x2", "--step=sft", "--rows=3"), "--rows=3 does not divide"),
        (("--topology=v5e:2x2", "--step=decode", "--tensor=4"), "does not divide the 2 key-value heads"),
    ],
)
def test_what_cannot_be_compiled_is_one_line(flags, message):
    done = _run("--config=miniature", *flags)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]


@needs_the_tpu_compiler
@pytest.mark.slow
def test_a_model_too_large_is_said_not_to_fit():
    flags = ("--topology=v5e:2x2", "--step=decode", "--rows=4", "--tokens=256", "--tensor=2", "--json")
    done = _run("--config=step_audio_r1", *flags)
    row = json.loads(done.stdout)
    assert done.returncode == 1 and list(row) == KEYS
    assert not row["fits"] and row["peak_gib"] > row["hbm_gib"] and row["fused_cycles"] is None
