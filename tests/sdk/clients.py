"""The vendor's two Python clients behind one face: call(operation, parameters) -> answer.

Parameters carry their wire names; lists and lists of structs are Python lists. The clients are used as they are
installed: nothing of them is patched.
"""

import json
import warnings
import xml.etree.ElementTree as ElementTree

from aliyunsdkcore.auth.credentials import StsTokenCredential
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from alibabacloud_iot20180120 import models as tea_models
from alibabacloud_iot20180120.client import Client as TeaIot
from alibabacloud_tea_openapi import models as tea_config
from alibabacloud_tea_util import models as tea_runtime
from Tea.exceptions import TeaException

VERSION = "aliyunsdkiot.request.v20180120"


class Answer:
    """What came back: `code` is empty on success."""

    def __init__(self, body, code=""):
        self.body, self.code = body, code

    def entries(self, outer, inner):
        """The entries of a wrapped list, however few they are."""
        found = (self.body.get(outer) or {}).get(inner) or []
        return found if isinstance(found, list) else [found]


def judged(body):
    return Answer(body, "" if str(body.get("Success")).lower() == "true" else body.get("Code", "?"))


def from_xml(element):
    """An element as JSON would have it; repeated children are a list."""
    if not len(element):
        return element.text or ""
    fields = {}
    for child in element:
        fields.setdefault(child.tag, []).append(from_xml(child))
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


class Core:
    """aliyun-python-sdk-core with aliyun-python-sdk-iot: signature v1, answers in JSON or XML."""

    def __init__(self, address, key, secret, token=None, form="JSON"):
        self.name, self.address, self.form = f"core/v1/{form}", address, form
        if token:
            self.client = AcsClient(region_id="cn-shanghai", credential=StsTokenCredential(key, secret, token))
        else:
            self.client = AcsClient(key, secret, "cn-shanghai")
        self.client.set_auto_retry(False)

    def call(self, operation, parameters):
        module = __import__(f"{VERSION}.{operation}Request", fromlist=["x"])
        request = getattr(module, f"{operation}Request")()
        request.set_endpoint(self.address)
        request.set_protocol_type("http")
        request.set_accept_format(self.form)
        for name, value in parameters.items():
            plural = "s" if isinstance(value, list) else ""
            getattr(request, f"set_{name}{plural}")(value)
        if self.form == "XML":
            return self.read(operation, self.raw(request))
        try:
            return judged(json.loads(self.client.do_action_with_exception(request)))
        except ServerException as refused:
            return Answer({"Message": refused.get_error_msg()}, refused.get_error_code())

    def raw(self, request):
        """The body as it came: the client's other way of calling asks for JSON whatever was set."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return self.client.do_action(request)

    def read(self, operation, text):
        root = ElementTree.fromstring(text)
        body = from_xml(root)
        if root.tag == "Error":
            return Answer(body, body["Code"])
        assert root.tag == f"{operation}Response", root.tag
        return judged(body)


class Tea:
    """alibabacloud_iot20180120: signature V3, answers in JSON."""

    def __init__(self, address, key, secret, token=None):
        self.name = "tea/v3/JSON"
        self.client = TeaIot(tea_config.Config(
            access_key_id=key, access_key_secret=secret, security_token=token, endpoint=address, protocol="http",
            region_id="cn-shanghai"))
        methods = [name for name in dir(TeaIot) if name.endswith("with_options")]
        self.methods = {name[:-len("with_options")].replace("_", ""): name for name in methods}

    def call(self, operation, parameters):
        request = getattr(tea_models, f"{operation}Request")().from_map(parameters)
        try:
            method = getattr(self.client, self.methods[operation.lower()])
            answer = method(request, tea_runtime.RuntimeOptions(autoretry=False))
        except TeaException as refused:
            return Answer({"Message": refused.message}, refused.code)
        assert answer.status_code == 200, answer.status_code
        return judged(answer.body.to_map())
