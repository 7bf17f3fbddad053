"""What compiled programs send is read from their text: by kind, group and loop."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.collectives import Collective, find_collectives
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import make_mesh


def test_rings_send_their_share_of_the_whole():
    assert Collective("all-gather", size=800, group=8, times=2).bytes_sent == 2 * 700
    assert Collective("all-reduce", size=800, group=8, times=1).bytes_sent == 2 * 700
    assert Collective("reduce-scatter", size=800, group=4, times=1).bytes_sent == 600
    assert Collective("collective-permute", size=800, group=2, times=1).bytes_sent == 800


def test_a_sum_over_devices_inside_a_loop_runs_as_often_as_the_loop():
    mesh = make_mesh(MeshConfig(data=8))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def loop(x):
        def body(total, step):
            moved = jax.lax.with_sharding_constraint((x * step).sum(0), whole)
            return total + jnp.sin(moved), None

        return jax.lax.scan(body, jnp.zeros(x.shape[1:]), jnp.arange(5.0))[0]

    x = jax.ShapeDtypeStruct((64, 256), jnp.float32, sharding=rows)
    found = find_collectives(jax.jit(loop, out_shardings=whole).lower(x).compile().as_text())
    summed = [one for one in found.all if one.kind == "all-reduce"]
    assert [(one.size, one.group, one.times) for one in summed] == [(256 * 4, 8, 5)]
    assert found.bytes_sent["all-reduce"] == pytest.approx(5 * 2 * 1024 * 7 / 8)


TPU_PROGRAM = """\
HloModule step

%all-reduce-scatter.1 (input.0: bf16[640,2560]) -> bf16[80,2560] {
  %all-reduce.89 = (bf16[640,2560]{1,0:T(8,128)(2,1)}) all-reduce(%input.0), channel_id=1, \
replica_groups={{0,1,2,3,4,5,6,7},{8,9,10,11,12,13,14,15}}, to_apply=%add
}

%body.2 (param: (s32[])) -> (s32[]) {
  %all-gather.1 = bf16[1,640,2560]{2,1,0} all-gather(%p), channel_id=9, \
replica_groups=mesh['data'=32,'fsdp'=8,'tensor'=1] {'fsdp'}, dimensions={1}
  %fusion.479 = bf16[80,2560]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}

%condition.3 (param: (s32[])) -> pred[] {
  %constant.4 = s32[]{:T(128)} constant(13)
  ROOT %lt.5 = pred[] compare(%i, %constant.4), direction=LT
}

ENTRY %main (p: s32[]) -> s32[] {
  %while.6 = (s32[]) while(%p), condition=%condition.3, body=%body.2
  %all-reduce.7 = f32[640]{0} all-reduce(%y), channel_id=12, replica_groups=[32,8]<=[256], to_apply=%add
  %all-reduce.8 = f32[640]{0} all-reduce(%y), channel_id=13, replica_groups=[256,1]<=[256], to_apply=%add
}
"""


def test_the_text_of_a_tpu_program():
    """Loops tell their length in their condition; an all-reduce and its slice, fused, are a reduce-scatter."""
    assert set(find_collectives(TPU_PROGRAM).all) == {
        Collective("reduce-scatter", size=2 * 640 * 2560, group=8, times=13),
        Collective("all-gather", size=2 * 640 * 2560, group=8, times=13),
        Collective("all-reduce", size=4 * 640, group=8, times=1),
    }
