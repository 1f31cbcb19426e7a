#!/usr/bin/env bash
set -euo pipefail

aws emr create-cluster \
  --region eu-central-1 \
  --name 'slicemill ingest score report' \
  --release-label emr-spark-8.0.0 \
  --applications Name=Spark \
  --service-role slicemill-ServiceRole-example \
  --ec2-attributes '{"SubnetId": "subnet-0123456789abcdef0", "InstanceProfile": "slicemill-PipelineProfile-example", "EmrManagedMasterSecurityGroup": "sg-0123456789abcdef0", "EmrManagedSlaveSecurityGroup": "sg-0123456789abcdef1", "ServiceAccessSecurityGroup": "sg-0123456789abcdef2"}' \
  --instance-groups '[{"Name": "master", "InstanceGroupType": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1, "EbsConfiguration": {"EbsBlockDeviceConfigs": [{"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": 100}, "VolumesPerInstance": 1}]}}, {"Name": "core", "InstanceGroupType": "CORE", "InstanceType": "m5.2xlarge", "InstanceCount": 2, "EbsConfiguration": {"EbsBlockDeviceConfigs": [{"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": 100}, "VolumesPerInstance": 1}]}}]' \
  --ebs-root-volume-size 50 \
  --configurations '[{"Classification": "spark-defaults", "Properties": {"spark.dynamicAllocation.enabled": "false", "spark.speculation": "false", "spark.scheduler.minRegisteredResourcesRatio": "1.0", "spark.scheduler.maxRegisteredResourcesWaitingTime": "300s", "spark.sql.execution.arrow.maxRecordsPerBatch": "64", "spark.yarn.maxAppAttempts": "1", "spark.executorEnv.AWS_DEFAULT_REGION": "eu-central-1", "spark.yarn.appMasterEnv.AWS_DEFAULT_REGION": "eu-central-1", "spark.pyspark.python": "/opt/slicemill/bin/python"}}, {"Classification": "spark-env", "Properties": {}, "Configurations": [{"Classification": "export", "Properties": {"PYSPARK_PYTHON": "/opt/slicemill/bin/python", "AWS_DEFAULT_REGION": "eu-central-1"}}]}, {"Classification": "yarn-site", "Properties": {"yarn.nodemanager.resource.memory-mb": "24576", "yarn.nodemanager.resource.cpu-vcores": "8", "yarn.scheduler.maximum-allocation-mb": "24576", "yarn.scheduler.maximum-allocation-vcores": "8"}}]' \
  --bootstrap-actions '[{"Name": "environment", "Path": "s3://slicemill-codebucket-example/bootstrap/environment.sh", "Args": ["s3://slicemill-codebucket-example/environments/slicemill-cpu-0000000000000000000000000000000000000000000000000000000000000000.tar.gz"]}]' \
  --steps '[{"Type": "CUSTOM_JAR", "Name": "slicemill ingest", "ActionOnFailure": "TERMINATE_CLUSTER", "Jar": "command-runner.jar", "Args": ["spark-submit", "--master", "yarn", "--deploy-mode", "client", "--conf", "spark.executor.instances=4", "--conf", "spark.executor.cores=4", "--conf", "spark.task.cpus=1", "--conf", "spark.executor.memory=2048m", "--conf", "spark.executor.memoryOverhead=9472", "/opt/slicemill/jobs/ingest.py", "--raw", "s3://slicemill-databucket-example/raw", "--lake", "s3://slicemill-databucket-example/lake"]}, {"Type": "CUSTOM_JAR", "Name": "slicemill score", "ActionOnFailure": "TERMINATE_CLUSTER", "Jar": "command-runner.jar", "Args": ["spark-submit", "--master", "yarn", "--deploy-mode", "client", "--conf", "spark.executor.instances=4", "--conf", "spark.executor.cores=4", "--conf", "spark.task.cpus=1", "--conf", "spark.executor.memory=2048m", "--conf", "spark.executor.memoryOverhead=9472", "/opt/slicemill/jobs/score.py", "--model", "s3://slicemill-databucket-example/runs/first", "--raw", "s3://slicemill-databucket-example/raw", "--out", "s3://slicemill-databucket-example/scores/first"]}, {"Type": "CUSTOM_JAR", "Name": "slicemill report", "ActionOnFailure": "TERMINATE_CLUSTER", "Jar": "command-runner.jar", "Args": ["env", "AWS_DEFAULT_REGION=eu-central-1", "/opt/slicemill/bin/python", "/opt/slicemill/jobs/report.py", "--lake", "s3://slicemill-databucket-example/lake", "--run", "s3://slicemill-databucket-example/runs/first", "--scores", "s3://slicemill-databucket-example/scores/first", "--out", "s3://slicemill-databucket-example/report/first"]}]' \
  --step-concurrency-level 1 \
  --security-configuration slicemill-SecurityConfiguration-example \
  --log-uri s3://slicemill-logbucket-example/clusters/ \
  --log-encryption-kms-key-id arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab \
  --auto-termination-policy IdleTimeout=5400 \
  --tags for-use-with-amazon-emr-managed-policies=true project=slicemill slicemill-shape=cpu slicemill-core-types=m5.2xlarge 'slicemill-core-and-spot-count=2 0' \
  --auto-terminate
