-- MLflow's database is made by the image, Optuna's here; both once, when the volume is new.
CREATE DATABASE optuna OWNER bort;
