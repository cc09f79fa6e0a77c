"""One story through every operation that `fota cloud` offers, told to it by the vendor's own clients.

Usage: story.py FOTA. Prints a line for each call and a summary; exits 1 when anything is not as expected.
"""

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from clients import Core, Tea

HERE = Path(__file__).parent
OPERATIONS = """CreateOTAVerifyJob CreateOTAStaticUpgradeJob CreateOTADynamicUpgradeJob QueryOTAJob ListOTATaskByJob
ListOTAJobByFirmware ListOTAJobByDevice QueryOTAFirmware ListOTAFirmware ListOTAUnfinishedTaskByDevice CreateOTAFirmware
DeleteOTAFirmware QueryDeviceDetail ListOTAModuleVersionsByDevice GenerateDeviceNameListURL CancelOTATaskByJob
CancelOTAStrategyByJob CancelOTATaskByDevice ConfirmOTATask ReupgradeOTATask UpdateOTAJob""".split()
PRODUCT, INSTANCE = "a1sdk", "iot-sdk"
TAGS = [{"Key": "fota.id", "Value": "7d0f 1c2e+a/b=%~*"}, {"Key": "note", "Value": "升级 A&B <C>"}]


class Cloud:
    """A `fota cloud` of its own."""

    def __init__(self, fota):
        command = [fota, "cloud", "--listen", "127.0.0.1:0", "--fleet", str(HERE / "fleet.yaml")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = re.search(r"http://(\S+)", self.process.stdout.readline()).group(1)

    def admin(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}/_admin/{path}", data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return json.load(answer)

    def minutes(self, minutes):
        self.admin("POST", "advance", {"minutes": minutes})

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Teller:
    """Makes calls, prints them, and remembers what went wrong."""

    def __init__(self, cloud, client):
        self.cloud, self.client = cloud, client
        self.accepted, self.calls, self.wrong = set(), 0, []

    def line(self, operation, what, good, detail=""):
        self.calls += 1
        print(f"{'ok ' if good else 'BAD'}  {self.client.name:13}  {operation:30} {what} {detail if not good else ''}".rstrip())
        if not good:
            self.wrong.append(f"{self.client.name} {operation} {what} {detail}")

    def send(self, operation, parameters):
        answer = self.client.call(operation, {"IotInstanceId": INSTANCE, **parameters})
        sent = {}
        for name, value in parameters.items():
            for n, entry in enumerate(value if isinstance(value, list) else [], 1):
                fields = entry.items() if isinstance(entry, dict) else [("", entry)]
                sent.update({f"{name}.{n}" + (f".{field}" if field else ""): str(v) for field, v in fields})
            if not isinstance(value, list):
                sent[name] = str(value)
        seen = self.cloud.admin("GET", "calls")[-1]
        differs = {k: (v, seen["params"].get(k)) for k, v in sent.items() if str(seen["params"].get(k)).lower() != v.lower()}
        if seen["operation"] != operation or differs:
            self.wrong.append(f"{self.client.name} {operation}: the cloud saw {seen['operation']} with {differs}")
        return answer

    def ok(self, operation, what="", **parameters):
        answer = self.send(operation, parameters)
        self.line(operation, what or ", ".join(parameters), answer.code == "", f"-> {answer.code} {answer.body}")
        if answer.code == "":
            self.accepted.add(operation)
        return answer

    def refused(self, operation, code, **parameters):
        answer = self.send(operation, parameters)
        self.line(operation, f"refused: {code}", answer.code == code, f"but {answer.code!r} {answer.body}")

    def holds(self, operation, what, actual, expected):
        self.line(operation, what, actual == expected, f"is {actual!r}, not {expected!r}")


def text(value):
    """A scalar of either format: XML has only text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def tell(teller):
    ok, refused, holds, cloud = teller.ok, teller.refused, teller.holds, teller.cloud
    now = lambda: int(time.time() * 1000)

    # Packages.
    listed = ok("ListOTAFirmware", CurrentPage=1, PageSize=100, ProductKey=PRODUCT)
    holds("ListOTAFirmware", "four packages", len(listed.entries("FirmwareInfo", "SimpleFirmwareInfo")), 4)
    made = ok("CreateOTAFirmware", FirmwareName="made by SDK", DestVersion="9.0", ProductKey=PRODUCT, Type=1,
              SrcVersion="1.0", FirmwareUrl="https://example.invalid/a b.bin", SignMethod="MD5", FirmwareSign="00ff",
              FirmwareSize=1234, FirmwareDesc="说明", NeedToVerify=False, ModuleName="default", Udi='{"a":"b"}')
    made = made.body["Data"]["FirmwareId"]
    info = ok("QueryOTAFirmware", FirmwareId=made).body["FirmwareInfo"]
    holds("QueryOTAFirmware", "as created", [text(info[f]) for f in ("FirmwareName", "SrcVersion", "Type", "Status")],
          ["made by SDK", "1.0", "1", "-1"])
    files = [{"Name": "a.bin", "Url": "https://example.invalid/a", "Size": 1, "SignValue": "s", "FileMd5": "m"},
             {"Name": "b.bin", "Url": "https://example.invalid/b", "Size": 2, "SignValue": "s", "FileMd5": "m"}]
    many = ok("CreateOTAFirmware", "MultiFiles", FirmwareName="many", DestVersion="8.0", ProductKey=PRODUCT,
              MultiFiles=files).body["Data"]["FirmwareId"]
    info = ok("QueryOTAFirmware", FirmwareId=many).body["FirmwareInfo"]
    found = info["MultiFiles"]
    holds("QueryOTAFirmware", "two files", [f["Name"] for f in found], ["a.bin", "b.bin"])
    ok("DeleteOTAFirmware", FirmwareId=many)
    refused("DeleteOTAFirmware", "iot.firmware.FirmwareNotFound", FirmwareId=many)

    # Verification.
    job = ok("CreateOTAVerifyJob", FirmwareId="fwVerify", ProductKey=PRODUCT, TargetDeviceName=["lab-1", "lab-2"],
             TimeoutInMinutes=60, NeedPush=True, NeedConfirm=False, DownloadProtocol="HTTPS", Tag=TAGS)
    refused("CreateOTAVerifyJob", "iot.firmware.InProgressVerifyJobExisted", FirmwareId="fwVerify", ProductKey=PRODUCT,
            TargetDeviceName=["lab-1"])
    refused("CreateOTAStaticUpgradeJob", "iot.firmware.FirmwareNotVerified", FirmwareId="fwVerify", ProductKey=PRODUCT,
            TargetSelection="ALL")
    cloud.minutes(10)
    info = ok("QueryOTAFirmware", FirmwareId="fwVerify").body["FirmwareInfo"]
    holds("QueryOTAFirmware", "verified", [text(info["Status"]), text(info["VerifyProgress"])], ["1", "100"])
    shown = ok("QueryOTAJob", JobId=job.body["Data"]["JobId"]).body["Data"]
    holds("QueryOTAJob", "completed", shown["JobStatus"], "COMPLETED")
    tags = shown["Tags"]["OtaTagDTO"]
    holds("QueryOTAJob", "tags in any script", sorted(tags, key=lambda t: t["Key"]), TAGS)

    # Static jobs of every selection.
    base = {"FirmwareId": "fwPlain", "ProductKey": PRODUCT}
    gray = ok("CreateOTAStaticUpgradeJob", **base, TargetSelection="GRAY", GrayPercent="12.5", SrcVersion=["1.0", "0.9"],
              RetryInterval=30, RetryCount=2, TimeoutInMinutes=60, MaximumPerMinute=500, OverwriteMode=1, NeedPush=True,
              NeedConfirm=True, DownloadProtocol="HTTPS", MultiModuleMode=False, Tag=TAGS).body["Data"]["JobId"]
    shown = ok("QueryOTAJob", JobId=gray).body["Data"]
    fields = ["GrayPercent", "RetryInterval", "RetryCount", "TimeoutInMinutes", "MaximumPerMinute", "OverwriteMode",
              "NeedConfirm", "DownloadProtocol", "SelectionType", "TargetSelection"]
    holds("QueryOTAJob", "as asked for", [text(shown[f]) for f in fields],
          ["12.50", "30", "2", "60", "500", "1", "true", "HTTPS", "STATIC", "GRAY"])
    tasks = ok("ListOTATaskByJob", JobId=gray, CurrentPage=1, PageSize=100, TaskStatus="CONFIRM")
    waiting = tasks.entries("Data", "SimpleOTATaskInfo")
    # 40 + 1 + 1 at 1.0 that are there, the lab's two at 2.0: 12.5 % of 42 is 5.
    holds("ListOTATaskByJob", "total", text(tasks.body["Total"]), "5")
    ok("ConfirmOTATask", TaskId=[task["TaskId"] for task in waiting[:3]])
    refused("ConfirmOTATask", "iot.firmware.IncorrectDeviceUpgradeJobStatus", TaskId=[waiting[0]["TaskId"]])
    name = waiting[3]["DeviceName"]
    found = ok("ListOTAUnfinishedTaskByDevice", ProductKey=PRODUCT, DeviceName=name, TaskStatusList=["CONFIRM", "QUEUED"])
    holds("ListOTAUnfinishedTaskByDevice", "one task", len(found.entries("Data", "SimpleOTATaskInfo")), 1)
    ok("CancelOTATaskByDevice", **base, DeviceName=[name], JobId=gray)
    one = ok("ListOTATaskByJob", JobId=gray, DeviceNames=[name])
    holds("ListOTATaskByJob", "cancelled", one.entries("Data", "SimpleOTATaskInfo")[0]["TaskStatus"], "CANCELED")
    refused("CancelOTATaskByJob", "iot.firmware.CancelOptionIsMandatory", JobId=gray)
    ok("CancelOTATaskByJob", JobId=gray, CancelQueuedTask=True, CancelNotifiedTask=True, CancelInProgressTask=True,
       CancelUnconfirmedTask=True)
    refused("CancelOTATaskByJob", "iot.firmware.JobHasNoScheduleTime", JobId=gray, CancelScheduledTask=True)
    holds("QueryOTAJob", "cancelled", ok("QueryOTAJob", JobId=gray).body["Data"]["JobStatus"], "CANCELED")

    start = now() + 60 * 60_000
    start += 10 * 60_000
    planned = ok("CreateOTAStaticUpgradeJob", **base, TargetSelection="ALL", ScheduleTime=start,
                 ScheduleFinishTime=start + 2 * 3_600_000).body["Data"]["JobId"]
    holds("QueryOTAJob", "planned", ok("QueryOTAJob", JobId=planned).body["Data"]["JobStatus"], "PLANNED")
    ok("CancelOTATaskByJob", JobId=planned, CancelScheduledTask=True)

    group = ok("CreateOTAStaticUpgradeJob", **base, TargetSelection="GROUP", GroupId="site", GroupType="LINK_PLATFORM")
    shown = ok("QueryOTAJob", JobId=group.body["Data"]["JobId"]).body["Data"]
    holds("QueryOTAJob", "group", [shown["TargetSelection"], shown["GroupId"], shown["GroupName"]], ["GROUP", "site", "Site 7"])
    ok("UpdateOTAJob", JobId=shown["JobId"], UpgradeType="STATIC", TargetSelection="GROUP", MaximumPerMinute=20,
       Tags=TAGS[:1])
    shown = ok("QueryOTAJob", JobId=shown["JobId"]).body["Data"]
    holds("QueryOTAJob", "updated", text(shown["MaximumPerMinute"]), "20")

    form = ok("GenerateDeviceNameListURL").body["Data"]
    names = ["dev-00", "dev-01", "bad-1"]
    holds("GenerateDeviceNameListURL", "file uploaded", upload(form, "\n".join(names)), 204)
    listed = ok("CreateOTAStaticUpgradeJob", **base, TargetSelection="SPECIFIC", DnListFileUrl=form["FileUrl"])
    listed = listed.body["Data"]["JobId"]
    refused("CreateOTAStaticUpgradeJob", "iot.common.InvalidFormattedParameter", **base, TargetSelection="SPECIFIC",
            DnListFileUrl=form["FileUrl"] + "x")
    cloud.minutes(10)
    tasks = ok("ListOTATaskByJob", JobId=listed, CurrentPage=1, PageSize=10).entries("Data", "SimpleOTATaskInfo")
    ends = {task["DeviceName"]: task["TaskStatus"] for task in tasks}
    holds("ListOTATaskByJob", "of the file", ends, {"dev-00": "SUCCEEDED", "dev-01": "SUCCEEDED", "bad-1": "FAILED"})
    failed = next(task["TaskId"] for task in tasks if task["DeviceName"] == "bad-1")
    ok("ReupgradeOTATask", JobId=listed, TaskId=[failed])
    refused("ReupgradeOTATask", "iot.firmware.IncorrectDeviceUpgradeJobStatus", JobId=listed, TaskId=[failed])
    cloud.minutes(10)
    ok("CreateOTAStaticUpgradeJob", **base, TargetSelection="SPECIFIC", TargetDeviceName=[f"dev-{n:02}" for n in range(2, 14)])
    cloud.minutes(10)

    # Devices.
    of = ok("ListOTAJobByDevice", **base, DeviceName="bad-1", CurrentPage=1, PageSize=100).entries("Data", "SimpleOTAJobInfo")
    holds("ListOTAJobByDevice", "the job", listed in [job["JobId"] for job in of], True)
    device = ok("QueryDeviceDetail", ProductKey=PRODUCT, DeviceName="dev-00").body["Data"]
    holds("QueryDeviceDetail", "version", device["FirmwareVersion"], "3.0")
    holds("QueryDeviceDetail", "by IotId", ok("QueryDeviceDetail", IotId=device["IotId"]).body["Data"]["DeviceName"], "dev-00")
    modules = ok("ListOTAModuleVersionsByDevice", ProductKey=PRODUCT, DeviceName="duo-1", CurrentPage=1, PageSize=200)
    found = {m["ModuleName"]: m["ModuleVersion"] for m in modules.entries("Data", "SimpleOTAModuleInfo")}
    holds("ListOTAModuleVersionsByDevice", "two modules", sorted(found), ["default", "radio"])

    # Standing policies.
    nexts = {"FirmwareId": "fwNext", "ProductKey": PRODUCT}
    standing = ok("CreateOTADynamicUpgradeJob", **nexts, SrcVersion=["1.0", "3.0"], DynamicMode=1, RetryInterval=10,
                  RetryCount=1, TimeoutInMinutes=60, MaximumPerMinute=1000, OverwriteMode=2, NeedPush=True,
                  NeedConfirm=False, DownloadProtocol="MQTT", MultiModuleMode=False, Tag=TAGS).body["Data"]["JobId"]
    refused("CreateOTADynamicUpgradeJob", "iot.firmware.InProgressDynamicJobExisted", **nexts, SrcVersion=["1.0"])
    ok("UpdateOTAJob", JobId=standing, UpgradeType="DYNAMIC", TargetSelection="ALL", MaximumPerMinute=900,
       TimeoutInMinutes=120, SrcVersionList=["1.0", "3.0", "0.9"], Tags=TAGS)
    shown = ok("QueryOTAJob", JobId=standing).body["Data"]
    holds("QueryOTAJob", "dynamic", [shown["SelectionType"], text(shown["DynamicMode"]), shown["DownloadProtocol"],
                                     sorted(shown["SrcVersions"]["SrcVersion"])], ["DYNAMIC", "1", "MQTT", ["0.9", "1.0", "3.0"]])
    ok("CancelOTAStrategyByJob", JobId=standing)
    refused("CancelOTAStrategyByJob", "iot.firmware.JobAlreadyCanceled", JobId=standing)
    refused("CancelOTAStrategyByJob", "iot.firmware.NotDynamicJob", JobId=gray)
    ok("CreateOTADynamicUpgradeJob", FirmwareId=made, ProductKey=PRODUCT, GroupId="growing",
       GroupType="LINK_PLATFORM_DYNAMIC", DynamicMode=2, MultiModuleMode=True, OverwriteMode=1)
    cloud.minutes(1000)
    late = ok("QueryDeviceDetail", "late-1", ProductKey=PRODUCT, DeviceName="late-1").body["Data"]
    holds("QueryDeviceDetail", "the latecomer was caught", late["FirmwareVersion"], "9.0")
    ok("CreateOTAStaticUpgradeJob", "of a module", FirmwareId="fwRadio", ProductKey=PRODUCT, TargetSelection="SPECIFIC",
       TargetDeviceName=["duo-1"], MultiModuleMode=True)
    jobs = ok("ListOTAJobByFirmware", FirmwareId="fwPlain", CurrentPage=1, PageSize=200)
    holds("ListOTAJobByFirmware", "five jobs", text(jobs.body["Total"]), "5")
    tags = [job.get("Tags") for job in jobs.entries("Data", "SimpleOTAJobInfo") if job["JobId"] == gray]
    holds("ListOTAJobByFirmware", "tags", len(tags[0]["OtaTagDTO"]), 2)

    # The gateway's refusals.
    refused("QueryOTAJob", "MissingJobId")
    refused("QueryOTAJob", "iot.firmware.InvalidOTAJobId", JobId="nobody's")
    refused("QueryOTAJob", "iot.system.InstanceNotFound", JobId=gray, IotInstanceId="iot-other")
    cloud.admin("PUT", "faults", {"throttleRate": 1})
    refused("QueryOTAJob", "Throttling.User", JobId=gray)
    cloud.admin("PUT", "faults", {"throttleRate": 0})


def upload(form, content):
    """PostObject, as a browser would."""
    boundary, parts = "frontier7d0f", []
    fields = {"key": form["Key"], "policy": form["Policy"], "OSSAccessKeyId": form["AccessKeyId"],
              "Signature": form["Signature"]}
    for name, value in fields.items():
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="n.csv"\r\n\r\n{content}\r\n'
                 f"--{boundary}--\r\n")
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(form["Host"], data="".join(parts).encode(), headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        return answer.status


def strangers(make, cloud):
    """Callers that are not who they say, and one with a token."""
    token = "CAIS+token/with==chars&%"
    for what, client, code in [
        ("with a token", make(cloud.address, "STS.sdkKey", "stsSecret", token), ""),
        ("with a wrong token", make(cloud.address, "STS.sdkKey", "stsSecret", "x"), "InvalidSecurityToken.MismatchWithAccessKey"),
        ("with a wrong secret", make(cloud.address, "sdkKey", "guess"), ("SignatureDoesNotMatch", "InvalidAccessKeySecret")),
        ("with an unknown key", make(cloud.address, "nobody", "guess"), "InvalidAccessKeyId.NotFound"),
    ]:
        teller = Teller(cloud, client)
        answer = client.call("ListOTAFirmware", {"IotInstanceId": INSTANCE, "CurrentPage": 1, "PageSize": 1})
        expected = code if isinstance(code, tuple) else (code,)
        teller.line("ListOTAFirmware", what, answer.code in expected, f"but {answer.code!r} {answer.body}")
        yield teller


def main(fota):
    wrong, calls, missing = [], 0, []
    for make in (Core, lambda *a: Core(*a, form="XML") if len(a) > 3 else Core(*a, None, "XML"), Tea):
        cloud = Cloud(fota)
        try:
            teller = Teller(cloud, make(cloud.address, "sdkKey", "sdkSecret"))
            tell(teller)
            missing += [f"{teller.client.name}: {name}" for name in OPERATIONS if name not in teller.accepted]
            for each in [teller, *strangers(make, cloud)]:
                wrong, calls = wrong + each.wrong, calls + each.calls
        finally:
            cloud.stop()
    print(f"\n{calls} checks, {len(wrong)} wrong; {len(OPERATIONS)} operations by 3 clients, {len(missing)} without success")
    for line in wrong + missing:
        print(f"BAD  {line}")
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
