// Backs up one VM with Microsoft's own client and prints what it saw as JSON.
//
// The environment variable AIRFLOW_CONN_AZURE_BACKUP_DEFAULT holds the connection that the emulator prints. Node must
// trust the emulator's certificate: NODE_EXTRA_CA_CERTS names the file.

import { setTimeout as sleep } from "node:timers/promises";

import { RecoveryServicesBackupClient } from "@azure/arm-recoveryservicesbackup";
import { ClientSecretCredential } from "@azure/identity";

const { login, password, extra } = JSON.parse(process.env.AIRFLOW_CONN_AZURE_BACKUP_DEFAULT);
const vault = [extra.vault_name, extra.resource_group_name];

const credential = new ClientSecretCredential(extra.tenant_id, login, password, {
  authorityHost: extra.authority,
  disableInstanceDiscovery: true,
});
const client = new RecoveryServicesBackupClient(credential, extra.subscription_id, { endpoint: extra.endpoint });

const items = [];
for await (const item of client.backupProtectedItems.list(...vault)) items.push(item);
const vm = items.find((item) => item.properties.friendlyName === process.argv[2]);

const [, fabric, container, name] = vm.id.match(
  /\/backupFabrics\/([^/]+)\/protectionContainers\/([^/]+)\/protectedItems\/([^/]+)$/,
);
const address = [...vault, fabric, container, name];
const points = async () => {
  const found = [];
  for await (const point of client.recoveryPoints.list(...address)) found.push(point);
  return found;
};
const before = await points();

let accepted;
await client.backups.trigger(
  ...address,
  { properties: { objectType: "IaasVMBackupRequest" } },
  { onResponse: (response) => (accepted = response) },
);
const operation = new URL(accepted.headers.get("azure-asyncoperation")).pathname.split("/").pop();

let status;
do {
  await sleep(100);
  status = await client.backupOperationStatuses.get(...vault, operation);
} while (status.status === "InProgress");

const seen = [];
let job;
do {
  await sleep(100);
  job = await client.jobDetails.get(...vault, status.properties.jobId);
  if (seen.at(-1) !== job.properties.status) seen.push(job.properties.status);
} while (job.properties.status === "InProgress");

let refusal;
try {
  await client.jobDetails.get(...vault, "00000000-0000-0000-0000-000000000000");
} catch (error) {
  refusal = { status: error.statusCode, code: error.code };
}

console.log(
  JSON.stringify({
    items: items.length,
    accepted: accepted.status,
    jobType: job.properties.jobType,
    statuses: seen,
    tasks: job.properties.extendedInfo.tasksList.map((task) => task.taskId),
    errors: (job.properties.errorDetails ?? []).map((error) => error.errorTitle),
    points: [before.length, (await points()).length],
    refusal,
  }),
);
