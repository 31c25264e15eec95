DROP TABLE writer_probe;
DROP TABLE usage;
DROP TABLE deployment_health;
DROP TABLE pod_health;
