-- A record that an earlier version wrote (format 1, before failures had a column).
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE checkpoints(
  trial INTEGER NOT NULL REFERENCES trials, step INTEGER NOT NULL, sha256 TEXT NOT NULL, at REAL NOT NULL,
  checksum INTEGER, PRIMARY KEY(trial, step)) STRICT;
CREATE TABLE events(
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, trial INTEGER, data TEXT NOT NULL,
  checksum INTEGER) STRICT;
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) STRICT;
INSERT INTO "meta" VALUES('id','"an earlier run"',2579286390);
INSERT INTO "meta" VALUES('definition','{"name": "earlier", "sweep": "earlier", "metric": "val_accuracy", "mode": "max", "arms": {"all": {}}, "epochs": 4}',1990029878);
INSERT INTO "meta" VALUES('schema','4269133941',112148202);
CREATE TABLE reports(
  seq INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trials, attempt INTEGER NOT NULL, step INTEGER NOT NULL,
  at REAL NOT NULL, rung REAL, cutoff REAL, stopped INTEGER, checksum INTEGER, "epoch" REAL, "val_accuracy" REAL,
  UNIQUE(trial, attempt, step));
INSERT INTO "reports" VALUES(1,1,1,1,1.79586671610203361514e+09,NULL,NULL,NULL,1934673715,1.0,0.5625);
INSERT INTO "reports" VALUES(2,1,1,2,1.79586671610210204122e+09,NULL,NULL,NULL,3204905882,2.0,0.625);
INSERT INTO "reports" VALUES(3,1,1,3,1.79586671610211682324e+09,NULL,NULL,NULL,2189831412,3.0,0.6875);
INSERT INTO "reports" VALUES(4,1,1,4,1.7958667161021265984e+09,NULL,NULL,NULL,1122374042,4.0,0.75);
INSERT INTO "reports" VALUES(5,5,1,1,1.79586671615364813804e+09,NULL,NULL,NULL,2954142847,1.0,'nan');
INSERT INTO "reports" VALUES(6,7,1,1,1.79586671618009519578e+09,1.0,0.5625,1,4251519024,1.0,0.25);
CREATE TABLE scores(
  trial INTEGER NOT NULL REFERENCES trials, split TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
  checksum INTEGER, PRIMARY KEY(trial, split, metric)) STRICT;
CREATE TABLE sessions(
  session INTEGER PRIMARY KEY, state TEXT NOT NULL, started REAL NOT NULL, ended REAL, info TEXT NOT NULL,
  checksum INTEGER) STRICT;
CREATE TABLE trials(
  trial INTEGER PRIMARY KEY, arm TEXT NOT NULL, phase TEXT NOT NULL, source INTEGER REFERENCES trials,
  state TEXT NOT NULL, params TEXT NOT NULL,
  distributions TEXT NOT NULL, config TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, stop_rung REAL,
  cutoff REAL, reason TEXT, error TEXT, node TEXT, device TEXT, created REAL NOT NULL, started REAL, ended REAL,
  checksum INTEGER) STRICT;
INSERT INTO "trials" VALUES(1,'all','search',NULL,'COMPLETED','{"lr": 0.01}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.01, "epochs": 4}',1,NULL,NULL,NULL,NULL,NULL,NULL,1.79586671607541942599e+09,1.79586671607548427581e+09,1.79586671610214304922e+09,1249257559);
INSERT INTO "trials" VALUES(2,'all','search',NULL,'FAILED','{"lr": 0.02}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.02, "epochs": 4}',1,NULL,NULL,'infeasible: parameters <= 200000 must hold, but got 235146',NULL,NULL,NULL,1.7958667160755560398e+09,1.79586671607557153704e+09,1.79586671612550520895e+09,4157114858);
INSERT INTO "trials" VALUES(3,'all','search',NULL,'FAILED','{"lr": 0.03}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.03, "epochs": 4}',1,NULL,NULL,'out of memory (RuntimeError: [enforce fail at alloc_cpu.cpp:124])','Traceback
RuntimeError: no',NULL,NULL,1.79586671607559967035e+09,1.79586671607561135285e+09,1795866716.13228,1772566800);
INSERT INTO "trials" VALUES(4,'all','search',NULL,'FAILED','{"lr": 0.04}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.04, "epochs": 4}',1,NULL,NULL,'ValueError: no','Traceback
ValueError: no',NULL,NULL,1.79586671607563424114e+09,1.79586671607564330108e+09,1.79586671614930558208e+09,4173604667);
INSERT INTO "trials" VALUES(5,'all','search',NULL,'DIVERGED','{"lr": 0.05}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.05, "epochs": 4}',1,NULL,NULL,'val_accuracy is nan at epoch 1',NULL,NULL,NULL,1.79586671607567882535e+09,1.79586671607568740846e+09,1.79586671615378832816e+09,2977225328);
INSERT INTO "trials" VALUES(6,'all','search',NULL,'LOST','{"lr": 0.06}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.06, "epochs": 4}',1,NULL,NULL,'its process died',NULL,NULL,NULL,1.79586671607570743562e+09,1.7958667160757155419e+09,1.79586671617335271833e+09,4266285799);
INSERT INTO "trials" VALUES(7,'all','search',NULL,'STOPPED','{"lr": 0.07}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.07, "epochs": 4}',1,1.0,0.5625,'0.25 against a cutoff of 0.5625 at epoch 1',NULL,NULL,NULL,1.79586671607573485371e+09,1.79586671607574272155e+09,1.79586671618036580085e+09,3504855636);
INSERT INTO "trials" VALUES(8,'all','search',NULL,'RUNNING','{"lr": 0.08}','{"lr": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": true}}"}','{"lr": 0.08, "epochs": 4}',1,NULL,NULL,NULL,NULL,NULL,NULL,1.79586671607576632506e+09,1.79586671607577586171e+09,NULL,1581874723);
COMMIT;
