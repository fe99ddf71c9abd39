"""DS-GRPO and every other rule for verl, through verl's own extension points. ``plugin`` is what verl loads.

    python -m verl.trainer.main_ppo trainer.v1.trainer_mode=dsmooth_sync algorithm.adv_estimator=dsmooth \\
        +algorithm.ds.gamma_p=0.2 ...

verl finds the plug-in by the entry point that this package declares. Without an installed package (a checkout on the path) set
``VERL_USE_EXTERNAL_MODULES=differential_smoothing.integrations.verl.plugin``. Importing this package imports no verl: a Ray worker
that unpickles something of it would import verl from within verl's own import.
"""
