"""Bad command lines: each is one line on standard error and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from poolbench import cli
from poolbench.cli.table import COMMANDS

#: A command line each, of `poolbench train` where no command is named.
LINES = r"""
evaluate_test=abc
seed=18446744073709551616
trainer.gradient_clip_val=-1
callbacks.resume_every=-1
callbacks.resume_every=nan
names.pool=x
perturb=[drop-edges,add-edges]
pool=[topk]
pool=topk,[mincut,none] -m
+a.b.c=1
paths.results=s3://bucket/x
paths.results=
seed=range(0) -m
pool=null
model=null
dataset=null
protocol=null
optimizer=null
scheduler=null
trainer=null
callbacks=null
logger=null
paths=null
experiment=null
debug=null
search=null
split=null
names=null
model.readout=null
model.readout=[a]
model.readout=3
~pool
~names
~paths
~trainer
~logger
~model
~split
~hydra
=5
=3
paths=3
names=3
split=3
hydra=3
logger=[1]
paths.results=[a]
paths.results=null
paths.data=3
paths.data=[a]
tags=null
-p nosuch --cfg job
batch_size=100000000000000000000000000
loss_weights={x:1}
loss_weights={nope:1}
trainer.gradient_clip_val=nan
callbacks.resume_every=abc
callbacks.monitor=nope
callbacks.tolerance=-1
callbacks.tolerance=nan
callbacks.ties=both
scheduler=warmup-cosine scheduler.warmup=0
loss_ramp=-1
loss_ramp={nope:3}
loss_ramp.cut=3
protocol.stratified=maybe
protocol=cv10 protocol.stratified=0
k_from=median
k_from=0
k_from=1
feature_scale=minmax
feature_scale=true
dataset=planted dataset.features=degree feature_scale=standard
dataset=MUTAG model=wl-svm pool=none protocol=cv10 feature_scale=standard
dataset=planted dataset.features=attributes-one-hot
callbacks.monitor=val/nothing callbacks.mode=min
trainer.threads=100000
trainer.devices=99
trainer.devices=0
trainer.devices=[]
trainer.devices=[0,0]
trainer.devices=a
trainer.strategy=nosuch
trainer.strategy=null
+trainer.limit_train_batches=0
+trainer.limit_train_batches=0.0
+trainer.max_steps=0
+trainer.max_steps=-2
+trainer.min_steps=5 +trainer.max_steps=3
+trainer.min_epochs=5
trainer.limit_val_batches=3
+trainer.limit_val_batches=3
+trainer.check_val_every_n_epoch=2
+trainer.val_check_interval=2
+trainer.logger=true
+trainer.max_time=1
trainer.precision=64
trainer.precision='64'
trainer.precision=64-true
trainer.precision=16-true
trainer.precision=bf16-true
-m seed=1,a
-m seed=1,-1
-m pool=none,topk pool.ratio=0.25
seed=0,1,2
pool=topk,mincut
seed=range(3)
pool=topk pool.ratio=0
pool=top-kk
dataset=proteinss
model.nosuch=3
+model.nosuch=3
hydra.launcher.n_jobs=0 -m seed=1,2
hydra/launcher=nosuch -m seed=1,2
hydra/launcher=basic -m seed=1,2
hydra.sweeper.max_batch_size=0 -m seed=1,2
hydra/sweeper=nosuch -m seed=1
--multirun=3 seed=1
--cfg jobb
--cfg
-c job -p
--config-name nosuch
-cn nosuch
pool
pool=
seed
seed=
seed==3
seed=1=2
seed=a
seed=1.5
seed=[1]
seed={a:1}
seed=null
seed=true
seed=1e3
seed=${nope}
seed=${
seed=${oc.env:NOPE_X}
seed=${now:}
seed=choice(1,2)
seed=interval(0,1)
seed=glob(*)
pool=glob(*)
seed=sort(3,1)
seed=tag(3)
seed=int(a)
seed=range(1,2,0) -m
seed=range(a) -m
seed=range(1,inf) -m
seed=interval(0,1) -m
seed=glob(a*) -m
++seed=a
+seed=1
~seed
~seed=1
+pool=topk
pool@x=topk
pool@=topk
/pool=topk
pool/=topk
pool/topk
pool.=3
.pool=3
pool..ratio=3
pool.ratio.x=3
pool.0=1
pool[0]=1
tags=[a
tags=a
tags=[1]
tags={a:1}
tags=[[a]]
group=3
group=[a]
fold=-1
fold=99
fold=a
fold=0
protocol=cv10 fold=10
protocol=cv10 protocol.folds=5 fold=5
protocol=cv10 protocol.folds=2
protocol=cv10 protocol.folds=1 protocol.val=0.1
protocol=cv10 protocol.folds=ten
protocol=cv10 protocol.folds_file=
protocol=cv10 protocol.folds_file=nosuch.json
protocol=legacy-cv10 protocol.folds_file=3
protocol=nested10 search=small protocol.folds_file=.
protocol=cv10 protocol.val=file
protocol=cv10 protocol.val=after
protocol=cv10 protocol.val=1
protocol=cv10 protocol.val=null
protocol=cv10 protocol.fold_seeds=other
protocol.fold_seeds=own
protocol.select=best
protocol.select=last callbacks.monitor=val/accuracy callbacks.mode=max
protocol=cluster protocol.select=metric
protocol=legacy-last
protocol=cv10 fold=10000000000000000000000
batch_size=0
batch_size=-1
batch_size=1.5
batch_size=inf
loss_weights=-1
loss_weights=nan
loss_weights=abc
loss_weights=[1]
loss_weights=null
loss_weights={cut:-1}
loss_weights={cut:abc}
loss_weights.cut=1
evaluate_test=1
evaluate_test=null
force=1
force=maybe
search=default
search=nosuch
search=3
search.trials=3
search={}
search={trials:3}
job_type=3
optimizer.lr=-1
optimizer.lr=abc
optimizer.lr=null
optimizer.lr=[1]
optimizer.lr=nan
optimizer.lr=inf
optimizer.weight_decay=-1
optimizer._target_=no.such.Class
optimizer._target_=torch.optim
optimizer._target_=torch.nn.Linear
optimizer._target_=3
optimizer._target_=null
optimizer._target_=
optimizer._target_=a
optimizer._target_=..a
optimizer.nosuch=1
+optimizer.nosuch=1
optimizer={lr:1}
optimizer=3
scheduler._target_=torch.optim.Adam
scheduler=step scheduler.step_size=0
scheduler=step scheduler.step_size=a
scheduler=step scheduler.gamma=a
scheduler=cosine scheduler.T_max=0
scheduler=cosine scheduler.T_max=a
scheduler=plateau scheduler.factor=2
scheduler=plateau scheduler.mode=middle
scheduler=plateau scheduler.patience=a
model.hidden=0
model.hidden=-1
model.hidden=a
model.hidden=1.5
model.hidden=null
model.hidden=[]
model.hidden=[8,a]
model.levels=0
model.levels=-1
model.levels=a
model.depth=-1
model.depth=a
model.mp=nosuch
model.mp=3
model.mp=null
model.activation=nosuch
model.activation=3
model.norm=nosuch
model.dropout=2
model.dropout=-0.1
model.dropout=a
model.readout=nosuch
model.readout=topk
model.readout={_target_:a.b}
model.readout={}
model.readout=
model._target_=torch.nn.Linear
dataset._target_=torch.nn.Linear
dataset.num_graphs=0
dataset.num_graphs=a
dataset.num_graphs=-5
dataset.num_graphs=1
dataset.seed=a
dataset.nosuch=3
dataset=tu
dataset=tu dataset.name=NOSUCH
dataset=tu dataset.name=3
dataset=ogb dataset.name=nosuch
protocol=nosuch
protocol.test=0
protocol.test=1
protocol.test=0.6 protocol.val=0.6
protocol.val=-1
protocol.select=nosuch
protocol=ogb
protocol=nodes
protocol=nested10
protocol._target_=torch.nn.Linear
logger=nosuch
logger=wandb logger.mode=nosuch
logger=wandb logger.budget=0
logger=wandb logger.budget=a
logger=wandb logger.budget=nan
logger=wandb logger.tags=3
logger=wandb logger.nosuch=3
logger=wandb logger.project=3
logger._target_=torch.nn.Linear
logger=tensorboard logger.dir=3
callbacks.patience=0
callbacks.patience=a
callbacks.patience=null
callbacks.mode=most
callbacks.monitor=3
callbacks.monitor=
callbacks.monitor=val/loss
callbacks.progress=a
callbacks.progress=1
callbacks.pictures_every=-1
callbacks.nosuch=1
trainer=nosuch
trainer=gpu
trainer.accelerator=tpu
trainer.max_epochs=0
trainer.max_epochs=-1
trainer.max_epochs=1.5
trainer.max_epochs=inf
trainer.max_epochs=null
trainer.threads=0
trainer.deterministic=1
trainer.deterministic=a
trainer.compile=1
trainer.precision=31
trainer.precision=null
+trainer.num_nodes=0
+trainer.accumulate_grad_batches=0
+trainer.accumulate_grad_batches=a
+trainer.gradient_clip_algorithm=a
+trainer.detect_anomaly=a
+trainer.benchmark=3
+trainer.sync_batchnorm=3
+trainer.min_epochs=-1
+trainer.min_steps=-1
+trainer.limit_train_batches=1.5
+trainer.limit_train_batches=-1
+trainer.nosuch=3
paths.mirror=3
paths.data=
paths.data=s3://x
paths.nosuch=3
--nosuch
-x
--config-dir
experiment=nosuch
debug=nosuch
+experiment=nosuch
+nosuch=default
nosuch=default
pool.ratio=0.25,0.5
'pool.ratio=0.25, 0.5'
'pool={_target_: a.b}'
'pool={ratio: 0.5}'
pool=topk '+pool={nosuch: 3}'
pool=topk pool.kernel_initializer=nosuch
pool=topk pool.sigmoid_gating=1
pool=topk pool._target_=poolbench.pool.topk.Nosuch
pool=topk pool._target_=torch.nn.Linear
pool.k=0
pool.k=1.5
pool.k=a
pool.mlp_hidden=[0]
pool.mlp_hidden=[a]
pool.mlp_activation=nosuch
hydra.nosuch=1
prepare dataset=nosuch
prepare dataset=planted dataset.num_graphs=0
prepare dataset=planted pool=nosuch
tune pool=topk dataset=planted trials=0
tune pool=topk dataset=planted trials=a
tune pool=topk dataset=planted workers=0
tune pool=topk dataset=planted workers=99
tune pool=topk dataset=planted search=nosuch
tune pool=topk dataset=planted search.sampler=nosuch
tune pool=topk dataset=planted search.space.nosuch=[1]
tune pool=topk dataset=planted search.space.optimizer.lr=[]
tune pool=topk dataset=planted search.space.optimizer.lr={low:1}
tune pool=topk dataset=planted search.space.seed=[1]
tune pool=topk dataset=planted search=null
tune pool=topk dataset=planted protocol=cv10
tune pool=topk,mincut dataset=planted
wandb-sweep pool=nosuch
wandb-sweep search=nosuch
wandb-sweep -m pool=topk
report --format nosuch
report --nosuch
report --curve
report --curve pool.ratio --separability
report --curve pool.ratio --wandb
verify
rerun nosuch
rerun
reproduce nosuch
reproduce nosuch/nosuch
equivalent --epochs -1
equivalent --cost a
list nosuch
list
list pools --nosuch
status nowhere
report nowhere/at-all
verify nowhere
rerun /etc/passwd
pool=topk;ls
hydra/job_logging=nosuch
hydra.run.dir=null
hydra.run.dir=/proc/x
hydra.output_subdir=/proc/x
hydra.sweeper.params={a:1} -m seed=1,2
+hydra.sweeper.params.seed=[1,2] -m
hydra.sweeper._target_=os.system -m seed=1,2
hydra.launcher._target_=os.system -m seed=1,2
hydra.sweep.dir=/proc/x -m seed=1,2
-m seed=
-m pool=topk,null
-m ~pool
-m trainer.max_epochs=1,0
--cfg hydra -p nosuch
--cfg all -p nosuch
--experimental-rerun nosuch
+optimizer.amsgrad=abc
+optimizer.betas=[a,b]
paths.results=s3://bucket/x -m seed=1,2
-m seed=1,2 pool=nosuch
-m seed=1,2 batch_size=a
-m pool=topk,nosuch
-m fold=0,99
-m protocol=cv10 fold=0,10
-m protocol=cv10,holdout fold=1
-m protocol=cv10 protocol.folds=5,2 fold=0
-m model.dropout=0.1,a
-m model.hidden=8,100000000
-m scheduler=step scheduler.step_size=1,0
pool=mincut pool.mlp_hidden=abc
pool=mincut pool.mlp_hidden=[8,a]
pool=topk pool.min_score=abc
pool=topk pool.min_score=2
pool=topk pool.min_score=-0.1
pool=topk pool.multiplier=abc
pool=topk pool.multiplier=null
pool=topk pool.nonlinearity=[tanh]
pool=topk pool.nonlinearity={a:b}
pool=topk pool.kernel_regularizer={l2:a}
pool=topk pool.kernel_regularizer={}
pool=topk pool.kernel_constraint=[]
pool=topk pool.sigmoid_gating=null
pool=topk +pool.gnn={_target_:torch_geometric.nn.GATConv,heads:a}
pool=topk +pool.gnn={_target_:torch_geometric.nn.GATConv,heads:1000000000}
pool=pan pool.min_score=1.5
pool=mincut pool.kernel_initializer=null
pool=topk pool.kernel_initializer=null
pool=pan pool.multiplier=a
pool=pan pool.filter_size=1000000
pool=pyg_topk pool.min_score=abc
pool=pyg_topk pool.min_score=2
pool=pyg_sag pool.gnn=Linear
pool=pyg_edge pool.dropout=2
pool=pyg_mincut pool.temperature=0
pool=bnpool pool.alpha_dp=abc
pool=bnpool pool.num_neg_samples=abc
pool=copool pool.hops=a
pool=dmon pool.collapse_regularization=a
pool=dmon pool.k_per_graph=abc
pool=dmon pool.mlp_dropout=a
pool=eigenpool pool.seed=-1
pool=eigenpool pool.seed=4294967296
pool=graclus pool.seed=-1
pool=graclus pool.seed=a
pool=gsapool pool.multiplier=a
pool=hgpsl pool.lamb=a
pool=maxcut pool.mp_units=abc
pool=structpool pool.hidden=a
pool=gmt model=global pool.encoders=100000
pool=quantile model=global pool.q=a
pool=degreescaler model=global pool.sizes=[a]
pool=multi model=global pool.aggregations=[]
pool=pyg_patchtransformer model=global pool.options={patch_size:0}
pool=pyg_mlp model=global pool.options=3
pool.ratio=[[0.5]]
pool.ratio={a:1}
pool.ratio=1e400
pool.k=100000000
pool.k=[4,a]
model.levels=100000000
model.levels=1001
model.levels=[2]
model.depth=1001
model.head_layers=100000
model.head_dropout=a
model.hidden=1e30
model.hidden=1e9
model.hidden=100000000
model.dropout=[0.1]
model.initializer=3
model.mp={name:sage,aggregation:3}
model.readout={name:gmt,heads:a}
model=dgcnn pool=sortpool model.dense=0
model=dgcnn pool=sortpool model.kernel=0
model=dgcnn pool=sortpool model.channels=[1]
batch_size=100000000000
trainer.max_epochs=1000000000
optimizer.lr=true
+optimizer.betas=[0.9]
+optimizer.betas=0.9
+optimizer.betas=[2,0.9]
+optimizer.betas=null
+optimizer.eps=-1
+optimizer.foreach=true
optimizer=sgd optimizer.momentum=-1
optimizer._target_=torch.optim.Optimizer
scheduler=step scheduler.step_size=null
scheduler=cosine scheduler.T_max=abc
scheduler=cosine scheduler.eta_min=null
scheduler=plateau scheduler.patience=-1
scheduler=plateau scheduler.patience=1.5
scheduler=plateau +scheduler.cooldown=-1
scheduler=plateau +scheduler.threshold_mode=nosuch
scheduler=warmup-cosine scheduler.T_max=null
scheduler._target_=torch.optim.lr_scheduler.MultiStepLR
scheduler._target_=torch.optim.lr_scheduler.MultiStepLR +scheduler.milestones=[a]
scheduler._target_=torch.optim.lr_scheduler.LambdaLR +scheduler.lr_lambda=a
logger=wandb logger.budget=true
logger=wandb logger.artifacts=3
logger=wandb logger.notes=[a]
protocol.select=null
protocol.test=abc
protocol.test=null
protocol=cv10 protocol.folds=100000000
protocol=cv10 protocol.folds=null
protocol=nested10 search=small protocol.runs=100000000
protocol=nested10 search=small protocol.folds=3
callbacks.mode=max
callbacks.mode=min
loss_weights={}
loss_ramp={}
perturb=add-edges perturb.share=a
perturb=add-edges perturb.seed=-1
perturb=graph perturb.kind=3
dataset.nodes=0
dataset.nodes=[a,b]
dataset.nodes=[24,1000000]
dataset.communities=3
dataset.colours=100000000
dataset.degree=[3]
dataset.noise=a
dataset.features=3
dataset.features={a:1}
dataset.num_graphs=2000000000
dataset=multipartite dataset.clusters=100000
dataset=grid2d dataset.rows=1000000 dataset.columns=1000000
dataset=ring dataset.num_nodes=10000000000
dataset=planted-nodes dataset.num_nodes=1000000000
tune pool=topk dataset=planted trials=1000000000
tune pool=topk dataset=planted search.space={model.levels:[1000000]}
""".strip().splitlines()
SMALL = ("dataset=planted", "logger=none", "trainer.max_epochs=2")


def argv(line: str) -> list[str]:
    words = shlex.split(line)
    return words if words[0] in COMMANDS else ["train", *SMALL, *words]


def check(code: int, error: str, folder: Path) -> None:
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    assert "HYDRA_FULL_ERROR" not in error and "Traceback" not in error and len(error) > 20
    assert {path.name for path in folder.iterdir()} <= {"cache"}, "nothing is written but data"


def in_process(
    line: str, capsys: pytest.CaptureFixture[str], folder: Path, patch: pytest.MonkeyPatch, said: str = ""
) -> None:
    patch.chdir(folder)
    code = cli.main(argv(line))
    error = capsys.readouterr().err
    assert said in error, error
    check(code, error, folder)


def test_there_are_many() -> None:
    assert len(LINES) == len(set(LINES)) >= 200


@pytest.mark.parametrize("line", LINES[::6])
def test_a_bad_line_is_one_line_of_error(line: str, results: Path, capsys: pytest.CaptureFixture[str],
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    in_process(line, capsys, results.parent, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for number, line in enumerate(LINES) if number % 6])
def test_and_so_are_the_others(line: str, results: Path, capsys: pytest.CaptureFixture[str],
                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    in_process(line, capsys, results.parent, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES[::10])
def test_a_bad_line_in_a_process_of_its_own(line: str, results: Path) -> None:
    code = "import sys; from poolbench.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *argv(line)], cwd=results.parent, env=dict(os.environ),
                          capture_output=True, text=True, check=False)  # fmt: skip
    check(done.returncode, done.stderr, results.parent)


# ------------------------------------------------------------------------------------------------------------- sweeps


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-m pool=none,topk pool.ratio=0.25", "pool=none: pool.ratio is no key of the configuration"),
        ("-m pool=topk,none pool.ratio=0.25", "pool=none: pool.ratio is no key of the configuration"),
        ("-m seed=1,a", "seed='a': a whole number of at least 0 is expected"),
        ("-m seed=0,-1", "seed=-1: a whole number"),
        ("-m seed=range(1000000000)", "seed=range(1000000000): 1000000000 jobs, and a sweep has at most 100000"),
        ("-m seed=range(0)", "seed=range(0) gives no value, and so no job"),
        ("-m seed=range(1,inf)", "seed=range(1,inf): range(START, STOP, STEP) of numbers"),
        ("-m seed=interval(0,1)", "a sweep takes values one by one"),
        ("-p nosuch --cfg job", "--package nosuch: nosuch is no key of the configuration"),
        ("seed=1=2", "seed=1=2: "),
    ],
)
def test_what_a_sweep_is_told(
    line: str, said: str, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(line, capsys, results.parent, monkeypatch, said)


def test_a_key_that_each_choice_has_is_swept(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*argv("-m pool=topk,sag pool.sigmoid_gating=true"), "callbacks.progress=none"]) == 0
    assert len(list(results.glob("runs/*/1/record.json"))) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: [1\nb: {", b"defaults: [nosuch]"])
def test_a_file_of_ones_own_that_cannot_be_read_is_named(
    content: bytes, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results.parent / "own" / "pool" / "broken.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert cli.main(["train", "--config-dir", str(results.parent / "own"), "pool=broken", *SMALL]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "broken" in error and "HYDRA_FULL_ERROR" not in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tags: ['${']", "{path} is no file of a configuration: "),
        ("optimizer: { lr: '${oops' }", "{path} is no file of a configuration: "),
        ("optimizer: [lr:", "{path} is no file of a configuration: "),
        ("group: ${nope.nope}", "{path}: group: Interpolation key 'nope.nope' not found"),
        ("optimizer: { lr: '${oc.env:NOT_SET_HERE}' }", "{path}: optimizer.lr: "),
        ("tags: [a, '${nope}']", "{path}: tags[1]: Interpolation key 'nope' not found"),
        ("batch_size: ${batch_size}", "{path}: batch_size: Recursive interpolation"),
        ("defaults: [{override /pool: top}]", "{path}: pool=top is unknown (did you mean topk"),
    ],
)
def test_a_file_whose_values_stand_for_nothing_is_named(
    text: str, said: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results.parent / "own" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{text}\n")
    (path.parent / "other.yaml").write_text("# @package _global_\ngroup: mine\n")
    folder = str(results.parent / "own")
    assert cli.main(["train", "--config-dir", folder, "experiment=mine", *SMALL]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said.format(path=path) in error, error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-m protocol.folds=4,5", "has 4 folds, and the protocol 5"),
        ("-m protocol.folds=4,5 fold=0", "has 4 folds, and the protocol 5"),
        ("-m protocol.folds=4 protocol.val=next,file", "fold 0 has no model_selection"),
        ("protocol.folds=5 dataset=tu dataset.name=NOSUCH", "has 4 folds, and the protocol 5"),
    ],
)
def test_folds_that_a_file_has_not_are_refused_before_anything_is_done(
    line: str, said: str, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the jobs before the bad one of a sweep are done, or a dataset is fetched."""
    (results.parent / "cache").mkdir()
    path = results.parent / "cache" / "folds.json"
    path.write_text(json.dumps([{"test": list(range(k, 40, 4))} for k in range(4)]))
    words = f"protocol=cv10 protocol.folds_file={path} dataset.num_graphs=40 {line}"
    words = words.replace("dataset.num_graphs=40 ", "") if "dataset=tu" in line else words
    in_process(words, capsys, results.parent, monkeypatch, said)


@pytest.mark.parametrize("line", ["pool._target_=ends.Module", "dataset._target_=ends.Module", "check ends.Module",
                                  "check ends_made.Pool"])  # fmt: skip
def test_code_of_ones_own_that_ends_the_process_is_an_error(
    line: str, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`poolbench check` of a script that calls sys.exit(0) found no fault."""
    folder = results.parent / "cache"
    folder.mkdir()
    (folder / "ends.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "ends_made.py").write_text(
        "import sys\nfrom poolbench.pool.base.src import SRCPool\n"
        "class Pool(SRCPool):\n    def __init__(self):\n        sys.exit(0)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    in_process(line, capsys, results.parent, monkeypatch, "SystemExit")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("optimizer.lr=abc", "optimizer.lr='abc': a number is expected"),
        ("optimizer.weight_decay=null", "optimizer.weight_decay=None: a number is expected"),
        ("optimizer.fused=often", "optimizer.fused='often': true or false is expected"),
        ("scheduler=step scheduler.gamma=[0.5]", "scheduler.gamma=[0.5]: a number is expected"),
        ("scheduler=plateau scheduler.mode=fast", "scheduler.mode='fast': min or max is expected by ReduceLROnPlateau"),
        ("pool=topk pool.ratio=[0.5,0.4,0.3]", "pool.ratio=[0.5, 0.4, 0.3]: 3 values for model.levels=2"),
        ("pool=mincut pool.k=[8,4] model.levels=1", "pool.k=[8, 4]: 2 values for model.levels=1"),
        ("+optimizer.amsgrad=abc", "optimizer.amsgrad='abc': torch's optimisers take numbers"),
        ("model.dropout=a", "model.dropout='a': a number is expected"),
        ("model.levels=100000000", "model.levels=100000000: a whole number of at most 1000 is expected"),
        ("pool=topk pool.min_score=abc", "pool.min_score='abc': a number or None is expected"),
        ("pool=topk pool.min_score=2", "pool.min_score=2: a share of the softmax in [0, 1] is expected, or None"),
        ("pool=mincut pool.mlp_hidden=abc", "pool.mlp_hidden='abc': a list of whole numbers, a whole number or None"),
        ("pool=topk pool.kernel_regularizer={l3:1}", "pool.kernel_regularizer={'l3': 1}: TopKPool: regularizer"),
        ("dataset.nodes=0", "dataset.nodes=0: a list of whole numbers is expected by PlantedGraphs"),
        ("+optimizer.betas=[0.9]", "optimizer.betas=[0.9]: a list of 2 numbers is expected by Adam"),
        ("optimizer.lr=-1", "optimizer.lr=-1: Adam: Invalid learning rate: -1"),
        ("optimizer=sgd optimizer.momentum=-1", "optimizer.momentum=-1: SGD: Invalid momentum value: -1"),
        ("scheduler=step scheduler.step_size=0", "scheduler.step_size=0: a whole number of at least 1 is expected"),
        ("scheduler=plateau scheduler.factor=2", "scheduler.factor=2: ReduceLROnPlateau: Factor should be < 1.0."),
        ("pool=pyg_mlp model=global pool.options={max_num_elements:a}", "pool.options={'max_num_elements': 'a'"),
        (
            "pool=topk +pool.gnn={_target_:torch_geometric.nn.GATConv,heads:a}",
            "pool.gnn={'_target_': 'torch_geometric.nn.conv.gat_conv.GATConv', 'heads': 'a'}: TopKPool: ",
        ),
        ("protocol.select=null", "protocol.select=None: a word is expected by Holdout"),
        ("-m fold=0,99 protocol=cv10", "fold=99: protocol cv10 has the folds 0 to 9"),
        ("topk", "topk: GROUP=NAME or KEY=VALUE is expected"),
        ("+pool=topk", "+pool=topk: there is one already; pool=topk takes its place"),
        ("pool=topk;ls", "pool=topk;ls: a value with signs such as ;"),
        ("+protocol.seed=3", "protocol.seed=3: split.seed says it"),
        ("+protocol.data=x", "protocol.data='x': paths.data says where data lies"),
        ("+dataset.mirror=x", "dataset.mirror='x': paths.mirror says where data lies"),
        ("+optimizer.key=3", "optimizer.key is no argument of Adam; it takes params, lr"),
        ("+dataset.cls=3", "dataset.cls is no argument of PlantedGraphs"),
        ("+model.pool=3", "model.pool=3: the pool of a model is pool="),
        ("+pool.in_channels=3", "pool.in_channels=3: the model says it; leave it out"),
        ("pool=diffpool +pool.x0_channels=3", "pool.x0_channels=3: the model says it"),
        ("pool=topk +pool.return_selection=true", "pool.return_selection=True: the model says it"),
        ("model.readout={name:gmt,in_channels:3}", "model.readout.in_channels=3: the model says it"),
        ("search=small search.space={nosuch:[1]}", "search.space.nosuch is no key of the configuration"),
        ("search=small search.space={optimizer:{nosuch:[1]}}", "search.space.optimizer.nosuch is no key"),
        ("search=small 'search.space={optimizer.lr:[1]}'", "search.space.optimizer.lr within a mapping is a mapping"),
        ("trainer.num_nodes=2", "trainer.num_nodes is no key of the configuration"),
    ],
)
def test_an_argument_is_named(
    line: str, said: str, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(line, capsys, results.parent, monkeypatch, said)


# ------------------------------------------------------------------------------------------------------- lost outputs

SWEEP = ["train", "-m", "pool=topk,none", *SMALL, "dataset.num_graphs=40", "model.hidden=8"]
MAIN = "import sys; from poolbench.cli import main; sys.exit(main(sys.argv[1:]))"


def records(results: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in results.glob("runs/*/*/record.json")]


@pytest.mark.parametrize("lost", ["pipe", "disk"])
@pytest.mark.slow
def test_a_lost_output_costs_output(lost: str, results: Path) -> None:
    command = [sys.executable, "-u", "-c", MAIN, *SWEEP]
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = subprocess.Popen(command, cwd=results.parent, text=True, stderr=subprocess.PIPE,
                                   stdout=full if lost == "disk" else subprocess.PIPE)  # fmt: skip
        if process.stdout is not None:
            process.stdout.readline()
            process.stdout.close()
        assert process.stderr is not None
        error = process.stderr.read()
        assert (process.wait(), error) == (0, "")
    assert records(results) == ["done", "done"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_an_output_that_was_closed_before_is_none(closed: str) -> None:
    shell = f'exec "$@" {closed}'
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", MAIN, "list", "protocols"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_lost_books_of_a_sweep_cost_a_warning(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from poolbench.jobs import run

    def done(config: object) -> None:
        shutil.rmtree(results / "sweeps", ignore_errors=True)

    monkeypatch.setattr(run, "run", done)
    assert cli.main(SWEEP) == 0
    said = capsys.readouterr().out
    assert said.count("cannot be read as the books") == 1 and "2 of 2: 2 done" in said


@pytest.mark.slow
def test_another_locale_is_no_other_run(results: Path) -> None:
    odd = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-c", MAIN, "train", *SMALL, "pool=topk", "dataset.num_graphs=40", "tags=['für']"]
    for variables in (odd, {}, odd):
        done = subprocess.run(words, cwd=results.parent, env={**os.environ, **variables}, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    (path,) = results.glob("runs/*/*/record.json")
    assert json.loads(path.read_text(encoding="utf-8"))["config"]["tags"] == ["für"]
